"""Models of transformers: their configuration, how they are built, and what they give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from mmflow_pretrained.attention import step_by_step
from mmflow_pretrained.bounds import checked_numbers, described_within_bounds
from mmflow_pretrained.folders import folder_of, is_local
from mmflow_pretrained.reading import reading

from mmflow.plugin import ComponentError

if TYPE_CHECKING:
    from torch import nn

Tower = Literal["image", "text", "audio"]
PREFIXES: dict[Tower, tuple[str, ...]] = {"image": ("vision", "visual"), "text": ("text",), "audio": ("audio",)}
"""How the parts of a tower are called in models of several."""
_INPUTS = ("pixel_values", "input_ids", "input_values", "input_features")
_CHECKED_SAMPLES = 16_000
_COUNTS_FROM_PADDING = frozenset({"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta"})
"""Model types whose first position comes after the id of the padding."""


@dataclass(frozen=True)
class Model:
    """Which model, and how it is built."""

    hub: str | None
    revision: str | None
    config: str
    """As JSON; `null` with `hub`."""
    tower: Tower | None
    pooler: bool
    """Whether the model's own pooling is wanted."""
    language: bool = False
    """Whether it comes with its language modeling head."""

    @property
    def shown(self) -> str:
        return self.hub or str((json.loads(self.config) or {}).get("model_type", "the configuration"))

    def configuration(self) -> Any:
        """The library's configuration; raises `ComponentError` for a model that it does not have."""
        return _configuration(self.hub, self.revision, self.config)

    def own(self) -> Any:
        """The configuration of the tower, where there are several."""
        whole = self.configuration()
        if self.tower is None:
            return whole
        names = [f"{prefix}_config" for prefix in PREFIXES[self.tower]]
        found = next((getattr(whole, name) for name in names if getattr(whole, name, None) is not None), None)
        if found is None:
            raise ComponentError(f"{self.shown} has no tower {self.tower}", hint="leave `tower` out")
        return found

    def build(self, *, commit: str | None = None, weights: bool = False) -> nn.Module:
        """The model without the parts that are not read, with its weights if asked."""
        with reading("transformers", "model", self.shown):
            import transformers

            configuration = self.configuration()
            kind = getattr(transformers, language_class(configuration, self.shown) if self.language else "AutoModel")
            if not weights:
                model = kind.from_config(configuration)
            else:
                assert self.hub is not None
                where = str(folder_of(self.hub)) if is_local(self.hub) else self.hub
                model, loaded = kind.from_pretrained(
                    where, config=configuration, revision=commit, trust_remote_code=False, output_loading_info=True,
                )  # fmt: skip
                self._complete(model, loaded["missing_keys"])
                # In the type of the configuration it may be half precision; the stage says what it trains in.
                model = model.float()
            return self._trimmed(model)

    def _complete(self, model: Any, missing: Any) -> None:
        """Refuse a model whose weights are not all there, but for parts that are not read."""
        kept = {name for name, _ in self._trimmed(model).named_parameters()}
        absent = sorted(name for name in missing if name in kept)
        if absent:
            only = all("pooler" in name for name in absent)
            hint = "`pool: mean` (or cls, last) reads none of it" if only else "name another model"
            raise ComponentError(f"the weights of {self.shown} lack {', '.join(absent[:4])}", hint=hint)

    def _trimmed(self, model: Any) -> Any:
        if self.language:
            return model
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        if self.tower is not None:
            others = [p for tower, names in PREFIXES.items() if tower != self.tower for p in names]
            for name in [*dict(model.named_children()), *dict(model.named_parameters(recurse=False))]:
                if name.startswith((*others, "logit_")):
                    delattr(model, name)
        elif not self.pooler and getattr(model, "pooler", None) is not None:
            model.pooler = None
        return model


@dataclass(frozen=True)
class Description:
    """The outputs of a model, and what it reads."""

    reads: str
    """The name of its input: pixel_values, input_ids, input_values, input_features."""
    width: int
    channels: int
    length: int | None
    """Of tokens, where it is always the same."""
    prefix: int
    grid: tuple[int, int] | None
    depth: int
    heads: int
    pooled: bool
    """Whether the library pools itself."""
    causal: bool
    size: tuple[int, int] | None
    frames: int | None
    context: int | None
    vocabulary: int
    padding: int
    whole: bool
    """Whether texts are padded to the whole length, without a mask."""
    drops: bool
    batch_norm: bool


@lru_cache(maxsize=32)
def described(model: Model) -> Description:
    """The description of a model, found by building it without memory."""
    import torch
    from torch import nn

    from mmflow_transformers.module import run

    with described_within_bounds(model.shown), torch.device("meta"):
        own = model.own()
        made: Any = model.build().eval()
        reads = _input_of(model, made)
        size = _pair(getattr(own, "image_size", None)) if reads == "pixel_values" else None
        frames = getattr(own, "num_frames", None) if reads == "pixel_values" else None
        given = torch.empty(1, *_shape(reads, own, size, frames))
        given = given.long() if reads == "input_ids" else given
        with step_by_step(made):
            # The fast ways of attention look at values, of which there are none here.
            # Nor may masks be looked at: causal models make one where none is given, others read one that is.
            mask = torch.ones_like(given) if reads == "input_ids" and _generates(made) else None
            found = run(made, model.tower, reads, given, mask, hidden=True, language=model.language).output
    tokens, pooled = found.last_hidden_state, getattr(found, "pooler_output", None)
    depth = len(found.hidden_states or ()) - 1
    patch = _pair(getattr(own, "patch_size", None))
    grid = (size[0] // patch[0], size[1] // patch[1]) if size and patch and frames is None else None
    prefix = tokens.shape[1] - grid[0] * grid[1] if grid else 0
    text = reads == "input_ids"
    return Description(
        reads=reads,
        width=(tokens if pooled is None else pooled).shape[-1],
        channels=tokens.shape[-1],
        length=None if text or (reads == "input_values" and len(given.shape) == 2) else tokens.shape[1] - prefix,
        prefix=max(prefix, 0),
        grid=grid if prefix >= 0 else None,
        depth=max(depth, 0),
        heads=int(getattr(own, "num_attention_heads", None) or getattr(own, "encoder_attention_heads", 0) or 0),
        pooled=pooled is not None,
        causal=text and model.tower is None and not _bidirectional(made),
        size=size,
        frames=frames,
        context=context_of(own) if text else None,
        vocabulary=int(getattr(own, "vocab_size", 0) or 0),
        padding=int(getattr(own, "pad_token_id", None) or 0),
        whole=text and str(own.model_type).startswith("siglip"),
        drops=any(isinstance(each, nn.Dropout) and each.p > 0 for each in made.modules()) or any(_rates(own)),
        batch_norm=any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in made.modules()),
    )


@lru_cache(maxsize=32)
def _configuration(hub: str | None, revision: str | None, config: str) -> Any:
    given = json.loads(config)
    checked_numbers(given, "the configuration")
    with reading("transformers", "model", hub or "the configuration"):
        import transformers

        if given is not None:
            if given.get("use_pretrained_backbone"):
                raise ComponentError("`use_pretrained_backbone` in a configuration", hint="its weights are random")
            kind = given.pop("model_type", None)
            if kind not in transformers.CONFIG_MAPPING:
                raise _unknown(kind, list(transformers.CONFIG_MAPPING))
            made = transformers.AutoConfig.for_model(kind, **given)
        else:
            assert hub is not None
            where = str(folder_of(hub, "config.json")) if is_local(hub) else hub
            checked_numbers(transformers.PretrainedConfig.get_config_dict(where, revision=revision)[0], hub)
            made = transformers.AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
    if hasattr(made, "apply_spec_augment"):
        # It draws from numpy's global generator; a view masks spans at addresses.
        made.apply_spec_augment = False
    return made


def language_class(configuration: Any, shown: str) -> str:
    """The class of transformers that builds a model with its language modeling head; raises `ComponentError`."""
    from transformers.models.auto import modeling_auto as known

    kind, decoder = configuration.model_type, bool(getattr(configuration, "is_decoder", False))
    for name, kinds in (
        ("AutoModelForImageTextToText", known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
        ("AutoModelForMaskedLM", {} if decoder else known.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        ("AutoModelForCausalLM", known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ):
        if kind in kinds and not getattr(configuration, "is_encoder_decoder", False):
            return name
    raise ComponentError(f"{shown} has no head that predicts tokens of its text", hint="leave `lm_head` out")


def _unknown(kind: object, known: list[str]) -> ComponentError:
    import difflib

    if kind is None:
        return ComponentError("a configuration of transformers needs `model_type`", hint="such as {model_type: vit}")
    near = ", ".join(difflib.get_close_matches(str(kind), known, 3))
    return ComponentError(f"transformers has no model type {kind!r}", hint=f"did you mean {near}?" if near else "")


def _input_of(model: Model, made: Any) -> str:
    if model.tower == "image":
        return "pixel_values"
    if model.tower == "text":
        return "input_ids"
    towers = [name for name in ("vision_config", "text_config", "audio_config") if hasattr(made.config, name)]
    if model.tower is None and len(towers) > 1:
        names = " or ".join({"vision": "image"}.get(name[:-7], name[:-7]) for name in towers)
        raise ComponentError(f"{model.shown} has several towers", hint=f"write `tower:` with {names}")
    found = str(made.main_input_name)
    if found not in _INPUTS:
        raise ComponentError(f"{model.shown} reads {found}, which `transformers` cannot give it", hint="write a plugin")
    return found


def _shape(reads: str, own: Any, size: tuple[int, int] | None, frames: int | None) -> tuple[int, ...]:
    """The shape of one value that the model reads."""
    if reads == "pixel_values":
        height, width = size or (224, 224)
        return (*((frames,) if frames else ()), int(getattr(own, "num_channels", 3)), height, width)
    if reads == "input_ids":
        return (int(getattr(own, "max_position_embeddings", 8)) if own.model_type.startswith("siglip") else 8,)
    if hasattr(own, "max_length") and hasattr(own, "num_mel_bins") and reads == "input_values":
        return (own.max_length, own.num_mel_bins)
    if reads == "input_values":
        return (_CHECKED_SAMPLES,)
    if hasattr(own, "max_source_positions"):
        return (own.num_mel_bins, 2 * own.max_source_positions)
    return (128, int(getattr(own, "num_mel_bins", 80)))


def context_of(own: Any) -> int | None:
    """Ids of a text at most; None where the model sets no limit."""
    limit = getattr(own, "max_position_embeddings", None)
    if limit is None or own.model_type not in _COUNTS_FROM_PADDING:
        return limit
    return int(limit) - int(own.pad_token_id) - 1


def _bidirectional(made: Any) -> bool:
    """Whether tokens see those after them: whether a later token changes what an earlier one becomes."""
    return not bool(getattr(made.config, "is_decoder", False)) and not _generates(made)


def _generates(made: Any) -> bool:
    import transformers

    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return made.config.model_type in names and made.config.model_type not in masked


def _rates(own: Any) -> Iterator[bool]:
    """Whether each rate of dropout in a configuration is above 0."""
    for name, value in own.to_dict().items():
        if ("drop" in name) and isinstance(value, float):
            yield value > 0


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) >= 2 else None
