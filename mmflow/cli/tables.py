"""Plain columns of text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> Iterator[str]:
    """Lines with `titles` and `rows` under each other; columns in `right` are aligned to the right."""
    table = [titles, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
    for row in table:
        cells = (row[i].rjust(width) if i in right else row[i].ljust(width) for i, width in enumerate(widths))
        yield "  ".join(cells).rstrip()
