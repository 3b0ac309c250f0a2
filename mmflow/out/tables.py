"""`Table`: rows of plain values that print themselves, in a terminal and in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import pandas

Cell = str | int | float | bool | None
Row = Mapping[str, Cell]


class Table(Sequence[Row]):
    """A sequence of rows, each a mapping with the same columns."""

    def __init__(self, rows: Sequence[Row], columns: Sequence[str] = ()) -> None:
        self._rows = tuple(rows)
        self.columns = tuple(columns) or tuple(dict.fromkeys(name for row in rows for name in row))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: int | slice) -> Row | Table:
        return Table(self._rows[index], self.columns) if isinstance(index, slice) else self._rows[index]

    def where(self, **values: Cell) -> Table:
        """The rows with these values."""
        kept = [row for row in self._rows if all(row.get(name) == value for name, value in values.items())]
        return Table(kept, self.columns)

    def column(self, name: str) -> list[Cell]:
        """The values of one column; raises `KeyError` where there is none."""
        if name not in self.columns:
            raise KeyError(name)
        return [row.get(name) for row in self._rows]

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas data frame, where pandas is installed."""
        import pandas

        return pandas.DataFrame([dict(row) for row in self._rows], columns=list(self.columns))

    def __repr__(self) -> str:
        texts = [[shown(row.get(name)) for name in self.columns] for row in self._rows]
        widths = [max(len(line[place]) for line in [self.columns, *texts]) for place in range(len(self.columns))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                 for line in [self.columns, *texts]]  # fmt: skip
        return "\n".join(lines) if self._rows else "(no rows)"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(shown(row.get(name)))}</td>' for name in self.columns)}</tr>"
            for row in self._rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def shown(value: Cell) -> str:
    """A cell for reading: numbers with four significant digits."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
