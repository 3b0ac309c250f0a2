"""What is compared: for each operation its sizes, its inputs, and everybody who computes it.

A contender is a function of the inputs that returns a zero-argument step, forward and backward where there is one. A
step returns what it computed, by name, for the comparison with the first contender run in float64.
"""

from . import contrast, items, neighbors
from .steps import Operation

OPERATIONS: dict[str, Operation] = {**contrast.OPERATIONS, **items.OPERATIONS, **neighbors.OPERATIONS}
