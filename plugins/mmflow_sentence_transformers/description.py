"""What a model of sentence-transformers is made of, read from its files without its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmflow_pretrained.folders import folder_of, is_local
from mmflow_pretrained.hub import commit_of
from mmflow_pretrained.reading import reading

from mmflow.plugin import ComponentError

LIBRARY = "sentence_transformers."
_MODULES = ("Transformer", "Pooling", "Dense", "Dropout", "LayerNorm", "Normalize")
"""The last words of the types that are read; others may need inputs or draws of their own."""
_CONFIGURATION = ("*.json", "*.txt", "*.model", "*/*.json", "*/*.txt", "*/*.model")


@dataclass(frozen=True)
class Description:
    """The outputs of a model, and how it reads a text."""

    folder: str
    """Where its files are, weights perhaps left out."""
    width: int
    channels: int
    depth: int
    heads: int
    vocabulary: int
    length: int
    lower: bool
    drops: bool
    prompts: tuple[tuple[str, str], ...]
    default_prompt: str | None
    transformer: str
    """The folder of the transformer, with its tokenizer."""


@lru_cache(maxsize=32)
def described(hub: str, revision: str | None) -> Description:
    """The description of a model; raises `ComponentError` for one that the encoder cannot run."""
    with reading("sentence_transformers", "model", hub):
        folder = folder_of(hub, "modules.json") if is_local(hub) else _files(hub, revision)
        stages = json.loads((folder / "modules.json").read_text())
        kinds = [str(stage["type"]) for stage in stages]
        foreign = [kind for kind in kinds if not kind.startswith(LIBRARY)]
        if foreign:
            raise ComponentError(
                f"the module {foreign[0]} of {hub} is no part of the library, and its code is never run",
                hint="use a model of the library's own modules, or write a plugin that holds the code",
            )
        names = [kind.rpartition(".")[2] for kind in kinds]
        unread = [name for name in names if name not in _MODULES]
        if unread or names[0] != "Transformer" or "Pooling" not in names:
            hint = "a Transformer, a Pooling, and perhaps Dense, LayerNorm, Dropout and Normalize"
            raise ComponentError(f"{hub} is made of {', '.join(names)}", expected=hint)
        first = folder / str(stages[0].get("path", ""))
        settings = _json(first / "sentence_bert_config.json")
        from transformers import AutoConfig

        config: Any = AutoConfig.from_pretrained(first, trust_remote_code=False)
        width = int(config.hidden_size)
        for name, stage in zip(names, stages, strict=True):
            found = _json(folder / str(stage.get("path", "")) / "config.json") if name in ("Pooling", "Dense") else {}
            width = _pooled(found, width) if name == "Pooling" else int(found.get("out_features", width))
            activation = str(found.get("activation_function", "torch."))
            if name == "Dense" and not activation.startswith("torch."):
                hint = "use a model of the library's own modules"
                raise ComponentError(f"the activation {activation} of {hub} is no part of torch", hint=hint)
        own = _json(folder / "config_sentence_transformers.json")
        limit = getattr(config, "max_position_embeddings", None) or 512
        length = (
            settings.get("max_seq_length") or _json(first / "tokenizer_config.json").get("model_max_length") or limit
        )
        rates = [value for name, value in config.to_dict().items() if "drop" in name and isinstance(value, float)]
        return Description(
            folder=str(folder),
            width=width,
            channels=int(config.hidden_size),
            depth=int(config.num_hidden_layers),
            heads=int(config.num_attention_heads),
            vocabulary=int(config.vocab_size),
            length=min(int(length), int(limit)),
            lower=bool(settings.get("do_lower_case", False)),
            drops=any(rates) or "Dropout" in names,
            prompts=tuple((str(name), str(text)) for name, text in (own.get("prompts") or {}).items()),
            default_prompt=own.get("default_prompt_name"),
            transformer=str(first),
        )


def _files(hub: str, revision: str | None) -> Path:
    """The folder with the configuration of a model on the hub."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(hub, revision=commit_of(hub, revision), allow_patterns=list(_CONFIGURATION)))


def _pooled(settings: Any, width: int) -> int:
    """The size of what a pooling gives: one vector for each of its modes."""
    modes = settings.get("pooling_mode")
    if isinstance(modes, str | list):
        return width * (1 if isinstance(modes, str) else len(modes))
    chosen = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on]
    return width * max(1, len(chosen))


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}
