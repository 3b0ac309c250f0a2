"""Videos: evenly spaced frames, upright."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def decode_video(data: bytes, *, frames: int, max_pixels: int) -> np.ndarray:
    """Evenly spaced frames of a video (the middles of equal parts), uint8 [T, H, W, 3], T at most `frames`.

    All frames are decoded one by one and only those that are wanted are kept. Raises `ValueError`.
    """
    import numpy as np

    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ValueError("video needs the package av: pip install 'mmflow-kit[video]'") from error
    if not data:
        raise ValueError("an empty file")
    try:
        count = 0
        with av.open(io.BytesIO(data), "r") as container:
            video = container.streams.video[0]
            if video.width * video.height * frames > max_pixels:
                raise ValueError(
                    f"{frames} frames of {video.width} x {video.height} pixels, more than `max_pixels` ({max_pixels})"
                )
            # Headers often state no number of frames, or a wrong one: packets are counted without decoding them.
            count = sum(packet.size > 0 for packet in container.demux(video))
        wanted = {int((place + 0.5) * count / frames) for place in range(frames)}
        kept = []
        with av.open(io.BytesIO(data), "r") as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    kept.append(frame.to_ndarray(format="rgb24"))
    except (FFmpegError, IndexError) as error:
        reason = error.strerror if isinstance(error, FFmpegError) else error
        raise ValueError(f"a video that cannot be decoded: {reason}") from error
    if not kept:
        raise ValueError("a video without frames")
    return np.stack(kept)
