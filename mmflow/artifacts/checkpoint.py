"""A checkpoint of a training that is not finished: the model, the optimizer's state, and where the run stands."""

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

    def write(self, optimizer: OptimizerState, standing: Mapping[str, Any]) -> None:
        """Beside the model, which is written by itself; `standing` is plain JSON."""
        from safetensors.torch import save_file
        from torch import Tensor

        tensors: dict[str, Tensor] = {}
        plain: dict[str, dict[str, Any]] = {}
        for number, values in optimizer.items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"{number}/{key}"] = value.detach().cpu().contiguous().clone()
                else:
                    plain.setdefault(str(number), {})[key] = value
        save_file(tensors, self._tensors)
        self._plain.write_text(json.dumps({**standing, "optimizer": plain}))

    def standing(self) -> dict[str, Any]:
        """Where the run stands, as it was written."""
        return {name: value for name, value in self._read().items() if name != "optimizer"}

    def optimizer(self) -> OptimizerState:
        """The state of the optimizer; tensors lie on the CPU."""
        from safetensors.torch import load_file

        state = {int(number): dict(values) for number, values in self._read()["optimizer"].items()}
        for name, tensor in load_file(self._tensors).items():
            number, _, key = name.partition("/")
            state.setdefault(int(number), {})[key] = tensor
        return state

    def _read(self) -> dict[str, Any]:
        return json.loads(self._plain.read_text())
