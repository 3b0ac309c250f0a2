"""Videos: frames at even times, upright."""

from __future__ import annotations

import io
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


def decode_video(data: bytes, *, frames: int, max_pixels: int) -> np.ndarray:
    """The frames that a video shows in the middles of `frames` equal parts of its time, uint8 [T, H, W, 3].

    T is smaller than `frames` where the video has fewer. Frames are turned as the video says. All are decoded one by
    one, and only those that are wanted are kept. Raises `ValueError`, also for a video that is cut off.
    """
    import numpy as np

    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ValueError("video needs the package av: pip install 'mmflow-kit[video]'") from error
    if not data:
        raise ValueError("an empty file")
    if _is_cut_off(data):
        raise ValueError("a video that is cut off: its file is shorter than it states")
    try:
        with av.open(io.BytesIO(data), "r") as container:
            times, wanted = _wanted(container, frames, max_pixels)
        kept: dict[int, np.ndarray] = {}
        with av.open(io.BytesIO(data), "r") as container:
            for number, frame in enumerate(container.decode(video=0)):
                place = frame.pts if times and frame.pts is not None else number
                if place in wanted:
                    kept[place] = upright(frame.to_ndarray(format="rgb24"), _display_matrix(frame))
    except (FFmpegError, IndexError) as error:
        reason = error.strerror if isinstance(error, FFmpegError) else error
        raise ValueError(f"a video that cannot be decoded: {reason}") from error
    if not kept:
        raise ValueError("a video without frames")
    if len(kept) < len(wanted):
        raise ValueError("a video that is cut off, or has frames that cannot be decoded")
    return np.stack([kept[place] for place in sorted(kept)])


SEGMENT = b"\x18\x53\x80\x67"
"""The element of a Matroska file that holds all of it."""


def _is_cut_off(data: bytes) -> bool:
    """Whether an AVI, Matroska or MP4 file ends before the end of one of its parts."""
    if data[:4] == b"RIFF":
        return 8 + int.from_bytes(data[4:8], "little") > len(data) + 1
    if data[:4] == b"\x1aE\xdf\xa3":
        at = data.find(SEGMENT, 0, 4096) + len(SEGMENT)
        width = 9 - data[at].bit_length() if len(SEGMENT) <= at < len(data) and data[at] else 0
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        # All ones: written before the size was known.
        return width > 0 and size != (1 << 7 * width) - 1 and at + width + size > len(data)
    if data[4:8] == b"ftyp":
        at = 0
        while at + 8 <= len(data):
            size, extended = int.from_bytes(data[at : at + 4], "big"), at + 16 <= len(data)
            if size == 1 and extended:
                size = int.from_bytes(data[at + 8 : at + 16], "big")
            if size == 0:
                return False
            at += max(size, 8)
        return at > len(data)
    return False


class _Packet(NamedTuple):
    pts: int | None
    duration: int
    shown: bool


def _wanted(container: Any, frames: int, max_pixels: int) -> tuple[bool, set[int]]:
    """The frames shown at the even times: by their time, or, where the video states none, by their number.

    Packets are counted without decoding them: headers often state no number of frames, or a wrong one.
    """
    video = container.streams.video[0]
    if video.width * video.height * frames > max_pixels:
        raise ValueError(
            f"{frames} frames of {video.width} x {video.height} pixels, more than `max_pixels` ({max_pixels})"
        )
    packets: list[_Packet] = []
    for packet in container.demux(video):
        if packet.size > 0:
            if packet.is_corrupt:
                raise ValueError("a video that is cut off")
            packets.append(_Packet(packet.pts, packet.duration or 0, not packet.is_discard))
    if _lacks_frames(container, video, packets):
        raise ValueError("a video that is cut off")
    shown = sorted((packet for packet in packets if packet.shown), key=lambda packet: packet.pts or 0)
    count = len(shown)
    times = [packet.pts for packet in shown if packet.pts is not None]
    if len(set(times)) < count or not times:
        return False, {int((place + 0.5) * count / frames) for place in range(frames)}
    step = shown[-1].duration or (times[-1] - times[0]) // max(count - 1, 1) or 1
    length = times[-1] + step - times[0]
    # In whole numbers, so that evenly timed frames are the same on every machine.
    middles = ((2 * place + 1) * length // (2 * frames) for place in range(frames))
    return True, {times[bisect_right(times, times[0] + at) - 1] for at in middles}


def _lacks_frames(container: Any, video: Any, packets: list[_Packet]) -> bool:
    """Whether a video has fewer frames, or less time, than its header states."""
    if video.frames and container.format.name.startswith("mov"):
        return len(packets) < video.frames
    times = [(packet.pts, packet.pts + packet.duration) for packet in packets if packet.pts is not None]
    if not times:
        return False
    end = max(end for _, end in times)
    if video.duration is not None:
        stated, found = float(video.duration * video.time_base), end - min(begin for begin, _ in times)
    elif container.duration and len(container.streams) == 1 and not container.format.name.startswith("mpeg"):
        stated, found = container.duration / 1_000_000, end
    else:
        return False
    return float(found * video.time_base) < stated - max(0.5, 0.02 * stated)


def upright(image: np.ndarray, matrix: Any) -> np.ndarray:
    """An image [H, W, 3] turned and mirrored in right angles by a display matrix (3 x 3; None for none).

    The matrix takes a point (x, y) of the image to (a x + c y, b x + d y), its rows being (a, b, u), (c, d, v), ...
    """
    if matrix is None:
        return image
    (a, b), (c, d) = matrix[0][:2], matrix[1][:2]
    if abs(a) >= abs(b):
        right, down = a, d
    else:
        image = image.transpose(1, 0, 2)
        right, down = c, b
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1].copy()


def _display_matrix(frame: Any) -> Any:
    import numpy as np

    found = next((side for side in frame.side_data if side.type.name == "DISPLAYMATRIX"), None)
    return None if found is None else np.frombuffer(bytes(found), dtype=np.int32).reshape(3, 3).tolist()
