"""The table of reference numbers: every function that has components of ours, by family."""

from __future__ import annotations

from tests.oracles.contrast import ROWS as CONTRAST
from tests.oracles.rows import Row

TABLE: tuple[Row, ...] = (*CONTRAST,)
