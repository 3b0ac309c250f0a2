"""Low-rank adapters inside a module (Hu et al., 2022): put in by peft, under names that the rest of mmflow can rely on.

Beside a layer with the weight W stand A [rank, in] and B [out, rank]: it computes W x + alpha / rank * B A drop(x), with
B = 0 at first. peft renames the layers that it wraps; outside of this file a wrapped layer keeps its name, and its
adapters are `<layer>.lora_A` and `<layer>.lora_B`, so that weights of a model without adapters fit one with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from fnmatch import fnmatchcase

from torch import Tensor, nn

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

    names = _targets(module, lora, says)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.rank if lora.alpha is None else lora.alpha, lora_dropout=lora.dropout,  # type: ignore[arg-type]
        target_modules="|".join(map(re.escape, names)),
    )  # fmt: skip
    try:
        inject_adapter_in_model(config, module, adapter_name=_ADAPTER)
    except ValueError as error:
        raise ComponentError(f"{says}: peft cannot adapt it: {error}") from error


def _targets(module: nn.Module, lora: Lora, says: str) -> list[str]:
    """Full names of the layers to adapt; with `*` alone all linear layers and attentions."""
    within = {
        f"{name}.{inner}"
        for name, each in module.named_modules()
        if isinstance(each, nn.MultiheadAttention)
        for inner, _ in each.named_modules()
        if inner
    }
    # An attention is adapted as a whole.
    known = {n: m for n, m in module.named_modules() if n and isinstance(m, _ADAPTABLE) and n not in within}
    chosen: dict[str, None] = {}
    for pattern in lora.targets:
        kinds = _DENSE if lora.targets == _EVERYWHERE else _ADAPTABLE
        found = [n for n, m in known.items() if isinstance(m, kinds) and _matches(n, pattern)]
        if not found:
            error = ComponentError(
                f"{says}: `{pattern}` of lora matches no layer that can have adapters", found=pattern,
                hint=did_you_mean(pattern, list(known), otherwise="it has no such layer", most=6) or "",
            )  # fmt: skip
            raise error
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
        if not isinstance(layer, BaseTunerLayer):
            continue
        parent, _, own = name.rpartition(".")
        if hasattr(layer, "unload_and_optionally_merge_module"):
            plain = layer.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
        else:
            layer.merge()
            plain = layer.get_base_layer()
        setattr(copied.get_submodule(parent), own, plain)
    return copied
