"""How the weights of an encoder begin: from a file, and which of them do not train."""

from __future__ import annotations

from torch import nn

from mmflow.compat.fsspec import opened
from mmflow.plugin.component import ComponentError
from mmflow.plugin.files import refuse_devices
from mmflow.plugin.kinds import Encoder, Freeze


def freezes(component: Encoder, path: str, projections: tuple[str, ...]) -> bool:
    """Whether `freeze` of an encoder holds for one of its parameters (`.blocks.0.weight`, `.head.linear.weight`)."""
    freeze = component.freeze
    if isinstance(freeze, Freeze):
        return not freeze.excepts(path.removeprefix("."))
    if freeze == "body":
        return not path.startswith(projections)
    return freeze


def load_file(module: nn.Module, url: str, *, says: str) -> None:
    from safetensors.torch import load

    try:
        refuse_devices(url)
        with opened(url) as file:
            tensors = load(file.read())
    except Exception as error:
        raise ComponentError(
            f"{says}: cannot read the weights {url}: {error}", hint="give a safetensors file on any fsspec URL"
        ) from error
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ComponentError(f"{says}: the weights {url} do not fit: {error}") from error
    if unexpected or len(missing) == len(module.state_dict()):
        raise ComponentError(
            f"{says}: the weights {url} do not fit",
            found=f"{len(unexpected)} unknown names such as {', '.join(list(unexpected)[:3]) or '(none)'}",
            expected=f"names such as {', '.join(list(module.state_dict())[:3])}",
        )
