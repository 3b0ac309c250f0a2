"""Models of open_clip: their configuration, how they are built, and what their towers give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmflow_pretrained.bounds import checked_numbers, described_within_bounds
from mmflow_pretrained.folders import first_line, folder_of, is_local
from mmflow_pretrained.hub import commit_of
from mmflow_pretrained.reading import reading

from mmflow.plugin import ComponentError
from mmflow_open_clip.configuration import HUB, configuration_of

if TYPE_CHECKING:
    from torch import nn

Tower = Literal["image", "text"]
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
         "model.safetensors")  # fmt: skip
"""Names of files with weights, the preferred one first."""


@dataclass(frozen=True)
class Model:
    """Which model, and how it is built."""

    hub: str | None
    revision: str | None
    pretrained: str | None
    config: str
    """As JSON; `null` with `hub`."""
    size: int | None

    @property
    def shown(self) -> str:
        return self.hub or "the configuration"

    def configuration(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """The configuration of the model and of its images; raises `ComponentError` for one that is not."""
        given = json.loads(self.config)
        if given is None:
            assert self.hub is not None
            model, images = configuration_of(self.hub, self.pretrained)
        else:
            model, images = given, {}
        absent = [name for name in ("embed_dim", "vision_cfg", "text_cfg") if name not in model]
        if absent:
            expected = "{embed_dim: ..., vision_cfg: {...}, text_cfg: {...}}"
            raise ComponentError(f"an open_clip configuration needs `{absent[0]}`", expected=expected)
        checked_numbers(model, self.shown)
        self._check_sources(model)
        model = {**model, "vision_cfg": {**model["vision_cfg"]}, "text_cfg": {**model["text_cfg"]}}
        if self.size is not None:
            model["vision_cfg"]["image_size"] = self.size
        return model, images

    def _check_sources(self, model: Mapping[str, Any]) -> None:
        """Refuse towers that are read from files of which a key would not know."""
        for tower, name in (("vision_cfg", "timm_model_name"), ("text_cfg", "hf_model_name")):
            settings = model.get(tower)
            if not isinstance(settings, Mapping):
                raise ComponentError(f"`{tower}` of {self.shown} is no mapping", found=f"{settings}"[:40])
            source = str(settings.get(name) or "")
            if source.startswith("local-dir:") or (source and is_local(source)):
                hint = "name a model that the library knows, or put the folder itself into `hub`"
                raise ComponentError(f"`{name}` of {self.shown} is a folder", found=source, hint=hint)
            flag = name.replace("_name", "_pretrained")
            if self.hub is None and settings.get(flag):
                raise ComponentError(f"`{flag}` in a configuration", hint="its weights are random; name a `hub`")

    def repository(self) -> str:
        """The repository on the hub behind a name; raises `ComponentError` where weights are elsewhere."""
        assert self.hub is not None
        if self.hub.startswith(HUB):
            return self.hub.removeprefix(HUB)
        if self.pretrained is None:
            import open_clip

            tags = ", ".join(open_clip.list_pretrained_tags_by_model(self.hub)[:6])
            raise ComponentError(
                f"which weights of {self.hub}?", hint=f"write `pretrained:` with one of {tags}, or `config`"
            )
        return "/".join(self._listed()[:2])

    def _listed(self) -> list[str]:
        """Owner, name and perhaps file on the hub of the weights with a tag."""
        assert self.hub is not None
        assert self.pretrained is not None
        with reading("open_clip", "weights", self.hub):
            import open_clip

            found = str(open_clip.get_pretrained_cfg(self.hub, self.pretrained).get("hf_hub") or "")
        if not found:
            raise ComponentError(f"the weights {self.pretrained} of {self.hub} are not on the hub", hint="name others")
        return found.split("/", 2)

    def build(self, *, weights: bool) -> nn.Module:
        """Both towers, with the weights of folder or hub if asked."""
        configuration, images = self.configuration()
        with reading("open_clip", "model", self.shown):
            model = _made(configuration, quick_gelu=bool(images.get("quick_gelu")))
            if weights:
                import open_clip

                # CoCa is taken as well, which its annotation leaves out.
                file = str(self._checkpoint())
                open_clip.load_checkpoint(model, file, strict=True, weights_only=True)  # pyright: ignore[reportArgumentType]
            return model

    def _checkpoint(self) -> Path:
        assert self.hub is not None
        if is_local(self.hub):
            folder = folder_of(self.hub, *FILES)
            return next(folder / file for file in FILES if (folder / file).is_file())
        from open_clip.pretrained import download_pretrained_from_hf

        repository = self.repository()
        file = None if self.hub.startswith(HUB) else self._listed()[2] or None
        commit = commit_of(repository, self.revision)
        return Path(download_pretrained_from_hf(repository, file, revision=commit))


@dataclass(frozen=True)
class Description:
    """The outputs of one tower, and what it reads."""

    width: int
    channels: int | None
    """Of tokens; None where the tower gives none."""
    length: int | None
    grid: tuple[int, int] | None
    heads: tuple[int, ...]
    """Of each block; none where the tower is no transformer of open_clip."""
    before: int
    """Tokens in front of those that are given (a class token), and behind them."""
    behind: int
    batch_norm: bool
    context: int
    vocabulary: int


@lru_cache(maxsize=32)
def described(model: Model, tower: Tower) -> Description:
    """The description of a tower, found by building it without memory."""
    import torch
    from torch import nn

    from mmflow_open_clip.module import blocks_of, tower_of

    configuration, _ = model.configuration()
    with described_within_bounds(model.shown), torch.device("meta"):
        made: Any = tower_of(model.build(weights=False), tower)
        text = configuration["text_cfg"]
        context = int(text.get("context_length", 77))
        if tower == "image":
            size = configuration["vision_cfg"].get("image_size", 224)
            height, width = (size, size) if isinstance(size, int) else size
            given = torch.empty(1, 3, height, width)
        else:
            given = torch.zeros(1, context, dtype=torch.int64)
        pooled, tokens = made.eval()(given, {})
    blocks = blocks_of(made)
    known = tokens is not None
    side = getattr(made, "grid_size", None)
    grid = (int(side[0]), int(side[1])) if known and side and side[0] * side[1] == tokens.shape[1] else None
    return Description(
        width=pooled.shape[-1],
        channels=tokens.shape[-1] if known else None,
        length=tokens.shape[1] if known else None,
        grid=grid,
        heads=tuple(block.attn.num_heads for block in blocks),
        before=int(tower == "image"),
        behind=int(getattr(made, "cls_emb", None) is not None),
        batch_norm=any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in made.modules()),
        context=context,
        vocabulary=int(text.get("vocab_size", 49_408)),
    )


def _made(configuration: Mapping[str, Any], *, quick_gelu: bool) -> nn.Module:
    """The class of open_clip that a configuration is for."""
    import open_clip
    from open_clip.model import CustomTextCLIP

    options = dict(configuration)
    custom = bool(options.pop("custom_text", False)) or "hf_model_name" in options["text_cfg"]
    if quick_gelu:
        options["quick_gelu"] = True
    if "hf_model_name" in options["text_cfg"]:
        options["text_cfg"] = {**options["text_cfg"], "hf_model_pretrained": False}
    kind = open_clip.CoCa if custom and "multimodal_cfg" in options else CustomTextCLIP if custom else open_clip.CLIP
    try:
        return kind(**options)
    except TypeError as error:
        raise ComponentError(f"open_clip cannot build this model: {first_line(error)}") from error
