"""The table of reference numbers: every function that has components of ours, by family."""

from __future__ import annotations

from tests.oracles.contrast import ROWS as CONTRAST
from tests.oracles.measures import ROWS as MEASURES
from tests.oracles.parts import ROWS as PARTS
from tests.oracles.prototypes import ROWS as PROTOTYPES
from tests.oracles.rows import Row
from tests.oracles.towers import ROWS as TOWERS

TABLE: tuple[Row, ...] = (*CONTRAST, *MEASURES, *TOWERS, *PROTOTYPES, *PARTS)
