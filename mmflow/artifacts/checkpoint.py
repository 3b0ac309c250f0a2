"""A checkpoint of a training that is not finished: the model, the state of each optimizer, and where the run stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow.artifacts.model import ModelArtifact

if TYPE_CHECKING:
    from torch import Tensor

OptimizerState = dict[int, dict[str, Any]]
"""Of a torch optimizer: by the number of the parameter, tensors and plain values."""


class CheckpointArtifact:
    """A stored checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.model = ModelArtifact(folder)
        self._tensors, self._plain = folder / "optimizer.safetensors", folder / "trainer.json"

    def write(self, optimizers: Mapping[str, OptimizerState], standing: Mapping[str, Any]) -> None:
        """Beside the model, which is written by itself: the optimizer of each update; `standing` is plain JSON."""
        from safetensors.torch import save_file
        from torch import Tensor

        tensors: dict[str, Tensor] = {}
        plain: dict[str, OptimizerState] = {update: {} for update in optimizers}
        for update, state in optimizers.items():
            for number, values in state.items():
                for key, value in values.items():
                    if isinstance(value, Tensor):
                        tensors[f"{update}/{number}/{key}"] = value.detach().cpu().contiguous().clone()
                    else:
                        plain[update].setdefault(number, {})[key] = value
        save_file(tensors, self._tensors)
        self._plain.write_text(json.dumps({**standing, "optimizers": plain}))

    def standing(self) -> dict[str, Any]:
        """Where the run stands, as it was written."""
        return {name: value for name, value in self._read().items() if name != "optimizers"}

    def optimizers(self) -> dict[str, OptimizerState]:
        """The state of the optimizer of each update; tensors lie on the CPU."""
        from safetensors.torch import load_file

        states: dict[str, OptimizerState] = {
            update: {int(number): dict(values) for number, values in state.items()}
            for update, state in self._read()["optimizers"].items()
        }
        for name, tensor in load_file(self._tensors).items():
            update, number, key = name.split("/", 2)
            states[update].setdefault(int(number), {})[key] = tensor
        return states

    def _read(self) -> dict[str, Any]:
        return json.loads(self._plain.read_text())
