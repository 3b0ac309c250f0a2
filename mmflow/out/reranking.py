"""A second, costlier score for the rows that a search has found."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmflow.out.model import LoadedModel
from mmflow.out.vectors import Vectors
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Score
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import Argument, RawValue

TOP = 50
"""Rows that a second score sees, where nothing else is said."""


def ordered_again(
    loaded: LoadedModel, by: str, query: RawValue, of: str, stored: Vectors, rows: Sequence[int], second: str
) -> tuple[list[float], list[int]]:
    """The second scores of a query with stored rows, the best first, and these rows.

    `second` names a part of the model that is a score, or a score without weights. The rows are encoded again, from
    their fields beside the vectors. Raises `ComponentError`.
    """
    declared, score = _second(loaded, second)
    fields = loaded.inputs(of).fields
    lost = [name for name in fields if name not in stored.fields]
    if lost:
        raise ComponentError(
            f"to order rows again by {second}, {of} reads their {lost[0]}, and the file has no such field",
            hint=f"write it beside the vectors: mmflow embed ... --fields {','.join(fields)}",
        )
    if not rows:
        return [], []
    given = {name: [stored.fields[name][row] for row in rows] for name in fields}
    asked = loaded.encodings_of({by: [query]}, outputs=declared.needs)[by]
    found = loaded.encodings_of({of: given}, outputs=declared.needs)[of]
    repeated = asked.rows(torch.zeros(len(rows), dtype=torch.int64))
    with torch.no_grad():
        sides = (side.map(lambda tensor: tensor.to(loaded.device)) for side in (repeated, found))
        values = score.pairs(*sides).float().cpu()
    order = values.sort(descending=True, stable=True).indices
    return values[order].tolist(), [rows[place] for place in order.tolist()]


def _second(loaded: LoadedModel, name: str) -> tuple[Score, Argument]:
    """A score as it is declared, and what computes it."""
    if name in loaded.parts:
        declared = loaded.scope.component(Owner("parts", name))
        module = loaded.modules.modules.at(f"parts.{name}")
        assert isinstance(declared, Score)
        return declared, declared if module is None else module.eval()
    try:
        found = Score.accept(name)
    except (ComponentError, ValueError) as error:
        known = ", ".join(loaded.parts)
        raise ComponentError(
            f"the model has no part {name!r} that is a score", expected=f"one of: {known}" if known else "",
            hint="train one in `parts` of the spec, or name a score without weights, such as maxsim",
        ) from error  # fmt: skip
    assert isinstance(found, Score)
    if hasattr(found, "build"):
        raise ComponentError(f"{name} has weights of its own", hint="train it in `parts`, and name that part")
    return found, found
