"""The components that random specs are made of: all that are installed, but for those named here with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import ClassVar

from torch import Tensor, nn

from mmflow.plugin import Component, Encoder, Pooled, Refs, TensorType, emit, hookimpl
from mmflow.plugin.registry import Registry, registry

LEFT_OUT: dict[str, str] = {
    "service/http_chat": "asks a server on the network",
    "encoder/transformers_message": "needs a folder with a whole vision-language model and its processor",
    "score/transformers_pairs": "needs the ids of two encoders that have its own tokenizer",
}
"""`kind/name` -> why no random spec can use it."""

OUTSIDE = ("modality",)
"""Kinds that a spec does not write by itself: modalities are told by the sources."""


class Telling(Encoder, name="telling"):
    """Gives its input turned around and emits its squared size, which a loss reads: nothing installed emits."""

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("vector",),)

    of: Refs[Pooled] = ()  # pyright: ignore[reportIncompatibleVariableOverride]

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}

    def emits(self) -> tuple[str, ...]:
        return ("told",)

    def build(self, *inputs: TensorType, state: Mapping[str, object]) -> nn.Module:
        return TellingModule()


class TellingModule(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        emit("told", x.square().mean(-1))
        return {"pooled": x.flip(-1)}


def register_partners() -> None:
    """Register what installed components need and none that is installed gives."""
    if "telling" not in registry().names("encoder"):
        plugin = SimpleNamespace(
            mmflow_components=hookimpl(lambda: {"encoder/telling": f"{__name__}:{Telling.__qualname__}"})
        )
        registry().add("random-specs", lambda: plugin, "random-specs", "0")


def names(kind: str) -> tuple[str, ...]:
    """Names of the components of a kind, those left out that lack an installed library."""
    return _names(registry(), kind)


@cache
def _names(known: Registry, kind: str) -> tuple[str, ...]:
    found = [name for name in known.names(kind) if f"{kind}/{name}" not in LEFT_OUT]
    return tuple(name for name in found if not component(kind, name).missing_modules())


def component(kind: str, name: str) -> type[Component]:
    return registry().get(kind, name)


def counted() -> dict[str, str]:
    """Every component that must stand in random specs, as `kind/name`, and those that need not, with the reason."""
    found: dict[str, str] = {}
    for one in registry().registrations():
        label = f"{one.kind}/{one.name}"
        if one.kind not in OUTSIDE:
            missing = registry().get(one.kind, one.name).missing_modules()
            found[label] = LEFT_OUT.get(label, "") or (f"needs {', '.join(missing)}" if missing else "")
    return found
