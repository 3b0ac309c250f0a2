"""What a timm model gives, found by building it without memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mmflow_pretrained.bounds import checked_numbers, described_within_bounds
from mmflow_pretrained.folders import first_line, folder_of, is_local
from mmflow_pretrained.reading import reading

from mmflow.plugin import ComponentError

if TYPE_CHECKING:
    from torch import nn

HUB, LOCAL = "hf-hub:", "local-dir:"
_FROM_FILES = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict")
"""Arguments of the library that read weights or settings from files, which a key would not know."""


@dataclass(frozen=True)
class Model:
    """Which model, and how it is built."""

    hub: str | None
    revision: str | None
    config: str
    """As JSON; `null` with `hub`."""
    size: int | None
    classifier: bool

    def build(self, *, pretrained: bool = False, commit: str | None = None) -> nn.Module:
        """The model, with its weights (at a commit of the hub) if asked; raises `ComponentError` for an unknown one."""
        shown = self.hub or str(self.arguments().get("architecture"))
        with reading("timm", "model", shown):
            import timm

            arguments = self.arguments()
            checked_numbers(arguments, shown)
            if found := [name for name in _FROM_FILES if name in arguments]:
                raise ComponentError(f"`{found[0]}` in a configuration", hint="its weights are random; name a `hub`")
            name = str(arguments.pop("architecture", None) or self._source(commit))
            stored = name.startswith((HUB, LOCAL))
            if not timm.is_model(name) and not (stored and self.hub is not None):
                raise unknown(name)
            if stored:
                checked_numbers(_stored(name)[2], shown)
            if not self.classifier:
                arguments["num_classes"] = 0
            if self.size is not None and self._fixed(name):
                arguments["img_size"] = self.size
            if commit is not None and not name.startswith(HUB):
                cfg = timm.get_pretrained_cfg(name)
                identity = f"{cfg.hf_hub_id if cfg is not None else name}@{commit}"
                arguments["pretrained_cfg_overlay"] = {"hf_hub_id": identity, "source": "hf-hub"}
            try:
                return timm.create_model(name, pretrained=pretrained, **arguments)
            except TypeError as error:
                raise ComponentError(f"timm cannot build {shown}: {first_line(error)}") from error

    def arguments(self) -> dict[str, Any]:
        """The inline configuration."""
        return dict(json.loads(self.config) or {})

    def _source(self, commit: str | None) -> str:
        assert self.hub is not None
        if is_local(self.hub):
            return f"{LOCAL}{folder_of(self.hub, 'config.json')}"
        at = commit or self.revision
        return f"{self.hub}@{at}" if self.hub.startswith(HUB) and at is not None else self.hub

    def _fixed(self, name: str) -> bool:
        """Whether the model is built for images of one size."""
        import timm

        if name.startswith((LOCAL, HUB)):
            return bool(_stored(name)[0].get("fixed_input_size"))
        found = timm.get_pretrained_cfg(name)
        return found is not None and bool(found.fixed_input_size)


def _stored(name: str) -> tuple[Mapping[str, Any], str, Mapping[str, Any]]:
    """What the files of a folder or repository say: of the weights, the architecture, and its arguments."""
    from timm.models import load_model_config_from_hf
    from timm.models._hub import load_model_config_from_path

    local = name.startswith(LOCAL)
    return (
        load_model_config_from_path(name.removeprefix(LOCAL))
        if local
        else load_model_config_from_hf(name.removeprefix(HUB))
    )


@dataclass(frozen=True)
class Description:
    """The outputs of a model, and how it wants its images."""

    width: int
    """Of the pooled vector."""
    channels: int
    """Of tokens or places."""
    sequence: bool
    """Whether its features are a sequence of tokens, and not a grid."""
    prefix: int
    """Tokens before those of the patches: class token, registers."""
    grid: tuple[int, int] | None
    layers: tuple[tuple[int, ...], ...]
    """Sizes of the outputs behind each block or stage: [L, D] of a sequence, [H, W, D] of a grid."""
    heads: tuple[int, ...]
    """Of each block whose attention maps can be had; empty where they cannot."""
    classes: int
    batch_norm: bool
    drops: bool
    data: Mapping[str, Any]
    """Arguments of the library's image transform."""
    repository: str


@lru_cache(maxsize=32)
def described(model: Model) -> Description:
    """The description of a model; raises `ComponentError` for one that timm does not have."""
    import torch
    from timm.data.config import resolve_data_config
    from torch import nn

    with described_within_bounds(model.hub or "the model"), torch.device("meta"):
        built: Any = model.build().eval()
        data = resolve_data_config({"img_size": model.size} if model.size is not None else {}, model=built)
        image = torch.empty(1, *data["input_size"])
        features = built.forward_features(image)
        pooled = built.forward_head(features, pre_logits=True)
        if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
            raise ComponentError(f"the timm model {type(built).__name__} gives neither tokens nor a grid")
        sequence = features.ndim == 3
        prefix = int(getattr(built, "num_prefix_tokens", 0)) if sequence else 0
        grid = grid_of(built, features, image)
        layers = _layers(built, image, sequence)
    return Description(
        width=pooled.shape[-1],
        channels=features.shape[1] if _channels_first(built, features) else features.shape[-1],
        sequence=sequence,
        prefix=prefix,
        grid=grid,
        layers=layers,
        heads=tuple(block.attn.num_heads for block in attending(built)),
        classes=int(getattr(built, "num_classes", 0)),
        batch_norm=any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in built.modules()),
        drops=any(_drops(each) for each in built.modules()),
        data=data,
        repository=str(built.pretrained_cfg.get("hf_hub_id") or ""),
    )


def attending(model: Any) -> list[Any]:
    """The blocks of a transformer whose attention maps can be had: timm's own attention, unfused when asked."""
    blocks = list(getattr(model, "blocks", ()))
    known = [b for b in blocks if all(hasattr(getattr(b, "attn", None), n) for n in ("num_heads", "attn_drop"))]
    return known if len(known) == len(blocks) and hasattr(model, "num_prefix_tokens") else []


def unknown(name: str) -> ComponentError:
    """The error for a name that timm does not list, with the nearest ones."""
    import difflib

    import timm

    known = timm.list_models()
    near = difflib.get_close_matches(name, known, 3) or timm.list_models(f"*{name.split('.')[0][:8]}*")[:3]
    return ComponentError(f"timm has no model {name!r}", hint=f"did you mean {', '.join(near)}?" if near else "")


def channels_last(model: Any, features: Any) -> Any:
    """Places of a grid as [N, H, W, C]."""
    return features.permute(0, 2, 3, 1) if _channels_first(model, features) else features


def _channels_first(model: Any, features: Any) -> bool:
    return features.ndim == 4 and str(getattr(model, "output_fmt", "NCHW")).upper().endswith("NCHW")


def grid_of(model: Any, features: Any, image: Any) -> tuple[int, int] | None:
    """Height and width of the grid that features of an image lie on; None where they are no grid."""
    if features.ndim == 4:
        height, width, _ = channels_last(model, features).shape[1:]
        return height, width
    patches = getattr(model, "patch_embed", None)
    if patches is None or not hasattr(patches, "dynamic_feat_size"):
        return None
    height, width = patches.dynamic_feat_size(tuple(image.shape[-2:]))
    count = features.shape[1] - int(getattr(model, "num_prefix_tokens", 0))
    return (int(height), int(width)) if height * width == count else None


def _layers(model: Any, image: Any, sequence: bool) -> tuple[tuple[int, ...], ...]:
    if not hasattr(model, "forward_intermediates"):
        return ()
    found = model.forward_intermediates(image, intermediates_only=True)
    if sequence:
        return tuple((each.shape[2] * each.shape[3], each.shape[1]) for each in found)
    return tuple((each.shape[2], each.shape[3], each.shape[1]) for each in found)


def _drops(module: Any) -> bool:
    rate = getattr(module, "p", None) if "Drop" in type(module).__name__ else None
    return bool(rate) or bool(getattr(module, "drop_prob", 0) or getattr(module, "prob", 0))
