"""Low-rank adapters inside a module (Hu et al., 2022): put in by peft, under names that the rest of mmflow can rely on.

Beside a layer with the weight W stand A [rank, in] and B [out, rank]: it computes W x + alpha / rank * B A drop(x),
with B = 0 at first. peft renames the layers that it wraps; outside of this file a wrapped layer keeps its name, and its
adapters are `<layer>.lora_A` and `<layer>.lora_B`, so that weights of a model without adapters fit one with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Lora
from mmflow.spec.text.problems import did_you_mean

_WRAPPED = "base_layer"
_ADAPTER = "default"
"""The name under which peft keeps the adapters."""
_EVERYWHERE = ("*",)
_DENSE = (nn.Linear, nn.MultiheadAttention)
_ADAPTABLE = (*_DENSE, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)


def adapt(module: nn.Module, lora: Lora, *, says: str) -> None:
    """Put adapters beside the layers of `module` that `lora` names, and freeze everything else.

    The adapters are drawn from torch's generator. Raises `ComponentError` where a pattern of `targets` matches no layer
    that can have adapters; `says` names the encoder in the message.
    """
    from peft import LoraConfig, inject_adapter_in_model

    layers = {name: module.get_submodule(name) for name in _targets(module, lora, says)}
    attentions = {name: layer for name, layer in layers.items() if isinstance(layer, nn.MultiheadAttention)}
    module.requires_grad_(False)
    if names := [name for name in layers if name not in attentions]:
        config = LoraConfig(
            r=lora.rank, lora_alpha=_alpha(lora), lora_dropout=lora.dropout,  # type: ignore[arg-type]
            target_modules="|".join(map(re.escape, names)),
        )  # fmt: skip
        inject_adapter_in_model(config, module, adapter_name=_ADAPTER)
    for name, layer in attentions.items():
        if lora.dropout:
            message = f"the attention {name} of {says} takes its inputs without dropout"
            raise _fault(says, "dropout", message, "leave `dropout` out, or name other layers in `targets`")
        _replace(module, name, AdaptedAttention(layer, lora.rank, _alpha(lora) / lora.rank))


def _targets(module: nn.Module, lora: Lora, says: str) -> list[str]:
    """Full names of the layers to adapt; with `*` alone all linear layers and attentions."""
    attentions = [name for name, each in module.named_modules() if isinstance(each, nn.MultiheadAttention)]
    within = tuple(f"{name}." for name in attentions)
    # An attention is adapted as a whole.
    known = {
        name: each
        for name, each in module.named_modules()
        if name and isinstance(each, _ADAPTABLE) and not name.startswith(within)
        # Keys and values of other widths have weights of their own there.
        and getattr(each, "in_proj_weight", each) is not None
    }  # fmt: skip
    chosen: dict[str, None] = {}
    for pattern in lora.targets:
        kinds = _DENSE if lora.targets == _EVERYWHERE else _ADAPTABLE
        found = [n for n, m in known.items() if isinstance(m, kinds) and _matches(n, pattern)]
        if not found:
            hint = did_you_mean(pattern, list(known), otherwise="it has no layer that can have any", most=6)
            message = f"`{pattern}` matches no layer of {says} that can have adapters"
            raise _fault(says, "targets", message, hint or "")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def is_adapted(module: nn.Module) -> bool:
    """Whether a module has adapters inside."""
    return any(hasattr(each, _WRAPPED) and hasattr(each, "lora_A") for each in module.modules())


def is_adapter(name: str) -> bool:
    """Whether a parameter, by its name outside of this file, is one of an adapter."""
    return any(word.startswith("lora_") for word in name.split("."))


def outside_name(name: str) -> str:
    """The name of a parameter of an adapted module outside of this file: `attention.query.weight`,
    `attention.query.lora_A.weight`."""
    words = name.split(".")
    kept = [
        word
        for place, word in enumerate(words)
        if word != _WRAPPED and not (word == _ADAPTER and words[place - 1].startswith("lora_"))
    ]
    return ".".join(kept)


def named(module: nn.Module, *, adapted: bool) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of a module by their outside names."""
    for name, parameter in module.named_parameters():
        yield outside_name(name) if adapted else name, parameter


def state(module: nn.Module, *, adapted: bool) -> dict[str, Tensor]:
    """Parameters and buffers of a module by their outside names."""
    return {outside_name(name) if adapted else name: value for name, value in module.state_dict().items()}


def merged(module: nn.Module) -> nn.Module:
    """A copy of an adapted module as it was before, with W + alpha / rank * B A as its weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    copied = deepcopy(module)
    for name, layer in list(copied.named_modules()):
        if isinstance(layer, AdaptedAttention):
            _replace(copied, name, layer.whole())
        elif isinstance(layer, BaseTunerLayer):
            layer.merge()
            _replace(copied, name, layer.get_base_layer())
    return copied


class AdaptedAttention(nn.Module):
    """Torch's attention with adapters beside its joint projection of queries, keys and values, and its last one.

    peft adds adapters to these weights and takes them off again in place at each call, which moves frozen weights by
    rounding; here each call computes with W + scale * B A, and W stays.
    """

    def __init__(self, attention: nn.MultiheadAttention, rank: int, scale: float) -> None:
        super().__init__()
        self.base_layer, self.scale = attention, scale
        width = attention.embed_dim
        like = attention.in_proj_weight
        self.lora_A, self.lora_B = _pair(width, rank, 3 * width, like)
        self.out_proj = nn.ModuleDict(dict(zip(("lora_A", "lora_B"), _pair(width, rank, width, like), strict=True)))

    batch_first = property(lambda self: self.base_layer.batch_first)
    # By this torch's own transformer layers know that they must call the attention, and not read its weights.
    in_proj_bias = None

    def forward(self, *args: Tensor, **kwargs: Tensor) -> tuple[Tensor, Tensor | None]:
        return functional_call(self.base_layer, self._weights(), args, kwargs)

    def _weights(self) -> dict[str, Tensor]:
        joint = self.lora_B.weight @ self.lora_A.weight
        last = self.out_proj["lora_B"].get_parameter("weight") @ self.out_proj["lora_A"].get_parameter("weight")
        return {
            "in_proj_weight": self.base_layer.in_proj_weight + self.scale * joint,
            "out_proj.weight": self.base_layer.out_proj.weight + self.scale * last,
        }

    @torch.no_grad()
    def whole(self) -> nn.MultiheadAttention:
        """The attention with merged weights."""
        for name, weight in self._weights().items():
            self.base_layer.get_parameter(name).copy_(weight)
        return self.base_layer


def _pair(inputs: int, rank: int, outputs: int, like: Tensor) -> tuple[nn.Linear, nn.Linear]:
    """A drawn as torch draws a layer (and peft does), and B = 0."""
    first = nn.Linear(inputs, rank, bias=False, device=like.device, dtype=like.dtype)
    second = nn.Linear(rank, outputs, bias=False, device=like.device, dtype=like.dtype)
    nn.init.zeros_(second.weight)
    return first, second


def _alpha(lora: Lora) -> float:
    return lora.rank if lora.alpha is None else lora.alpha


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, layer)


def _fault(says: str, field: str, message: str, hint: str) -> ComponentError:
    """A mistake in one field of `lora` of the encoder `says`."""
    error = ComponentError(message, hint=hint)
    error.owner = (*says.split("."), "lora", field)
    return error
