"""The sums and bars of a teacher in Triton: the bits that kernels compare with bars are those that set them."""

from dataclasses import replace

from ..softmax import fused as core
from ..sums.streams import Stream
from ..targets.chunked import Teacher as AnyTeacher
from ..targets.fused import FusedTeacher as Teacher
from . import chunked

__all__ = ["Teacher", "add_sums", "core"]


def add_sums(teacher: AnyTeacher, streams: tuple[Stream | None, Stream | None]) -> None:
    """As `chunked.add_sums`; without bars the sums come from one pass of the softmax core."""
    if any(least is not None for least in teacher.least):
        return chunked.add_sums(teacher, streams)
    want = next(stream.want for stream in streams if stream is not None)
    pairs = replace(teacher.pairs, positives="none")
    for stream, sums in zip(streams, core.softmax_sums(teacher.a, teacher.b, teacher.scale, pairs, want), strict=True):
        if stream is not None and sums is not None:
            stream.add_sums(sums)
    return None
