"""The output type `Model`: weights, memories and learned preprocessing under `model/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class ModelArtifact:
    """A stored model. Tensors lie on the CPU when they are read."""

    def __init__(self, output: Path) -> None:
        folder = output / "model"
        self._weights, self._memories = folder / "model.safetensors", folder / "memories.safetensors"
        self._states = folder / "states.json"

    def write(
        self,
        weights: Mapping[str, Tensor],
        memories: Mapping[str, Mapping[str, Tensor]],
        states: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Weights by path, the state of each memory, and preprocessing that encoders have learned (plain JSON)."""
        from safetensors.torch import save_file

        self._weights.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: _apart(tensor) for name, tensor in weights.items()}, self._weights)
        flat = {f"{name}/{key}": _apart(tensor) for name, state in memories.items() for key, tensor in state.items()}
        save_file(flat, self._memories)
        self._states.write_text(json.dumps(states, ensure_ascii=False, sort_keys=True))

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by path (`encoders.image.blocks.0.mlp.weight`)."""
        from safetensors.torch import load_file

        return load_file(self._weights)

    def memories(self) -> dict[str, dict[str, Tensor]]:
        """The state of each memory, by its path (`memories.queue`)."""
        from safetensors.torch import load_file

        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in load_file(self._memories).items():
            memory, _, key = name.partition("/")
            found.setdefault(memory, {})[key] = tensor
        return found

    def states(self) -> dict[str, dict[str, Any]]:
        """Learned preprocessing, such as a vocabulary, by the path of the encoder."""
        return json.loads(self._states.read_text())


def _apart(tensor: Tensor) -> Tensor:
    # Safetensors refuses tensors that share storage.
    return tensor.detach().cpu().contiguous().clone()
