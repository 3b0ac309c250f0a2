"""Tokenizers made elsewhere: a `tokenizer.json`, those of transformers and those of open_clip.

Their ids are exactly the library's own, begin and end as it adds them; a text is cut to `length` the library's way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from mmflow.plugin import ComponentError, Field, Tokenizer, outside_identity
from mmflow_encoders.pretrained import contents, first_line, folder_of, is_local, known_to_open_clip
from mmflow_encoders.tokenizers import well_formed


class LoadedTokenizer(Tokenizer):
    """Base of the tokenizers that come from files: nothing is learned, `special` is read from the files."""

    @property
    def special(self) -> Mapping[str, int]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {}


class TokenizerFile(LoadedTokenizer, name="tokenizer_file"):
    """A `tokenizer.json` of the tokenizers library, from any fsspec URL."""

    requires: ClassVar[tuple[str, ...]] = ("tokenizers",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = (
        "{use: text_transformer, of: caption, tokenizer: {use: tokenizer_file, url: tokenizer.json}}"
    )

    url: str = outside_identity(description="the file")
    end: str | None = Field(None, description="the token that ends a text, where an encoder reads its state")

    def fingerprint(self) -> Any:
        import hashlib

        return hashlib.sha256(_text_of(self.url).encode()).hexdigest()

    @property
    def special(self) -> Mapping[str, int]:
        if self.end is None:
            return {}
        found = _from_file(_text_of(self.url), None).token_to_id(self.end)
        if found is None:
            raise ComponentError(f"{self.url} has no token {self.end!r}")
        return {"end": found}

    def size(self, state: Mapping[str, Any] | None) -> int:
        return max(_from_file(_text_of(self.url), None).get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        return _from_file(_text_of(self.url), length).encode(well_formed(text)).ids

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        return _from_file(_text_of(self.url), None).decode(list(ids), skip_special_tokens=True)


class HfTokenizer(LoadedTokenizer, name="hf_tokenizer"):
    """The tokenizer of a transformers model, by folder or hub name."""

    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = "{use: text_transformer, of: caption, tokenizer: {use: hf_tokenizer, hub: ./bert-tiny}}"

    hub: str = outside_identity(description="a folder with the tokenizer's files, or a name on the hub")
    revision: str | None = Field(None, description="of the hub's repository")

    def fingerprint(self) -> Any:
        return contents(self.hub, self.revision)

    @property
    def special(self) -> Mapping[str, int]:
        made = self._made()
        ids = {
            "padding": made.pad_token_id,
            "begin": made.cls_token_id if made.bos_token_id is None else made.bos_token_id,
            "end": made.sep_token_id if made.eos_token_id is None else made.eos_token_id,
            "unknown": made.unk_token_id,
            "mask": made.mask_token_id,
        }
        return {name: id for name, id in ids.items() if id is not None}

    def size(self, state: Mapping[str, Any] | None) -> int:
        made = self._made()
        return max(len(made), max(made.get_vocab().values()) + 1)

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        return list(self._made()(well_formed(text), truncation=True, max_length=length)["input_ids"])

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        return self._made().decode(list(ids), skip_special_tokens=True)

    def _made(self) -> Any:
        return _from_transformers(self.hub, self.revision)


class OpenClipTokenizer(LoadedTokenizer, name="open_clip_tokenizer"):
    """The tokenizer of an open_clip model: by the model's name, a hub name (`hf-hub:NAME`) or a folder with
    `open_clip_config.json`.

    The models of OpenAI and most of open_clip share the byte pairs that come with the library (49,408 ids, none for an
    unknown text; 0 is a letter).
    """

    requires: ClassVar[tuple[str, ...]] = ("open_clip",)
    extra: ClassVar[str] = "open_clip"
    example: ClassVar[str] = "{use: text_transformer, of: caption, tokenizer: open_clip_tokenizer, length: 77}"

    hub: str = outside_identity("ViT-B-32", description="a name that open_clip lists, hf-hub:NAME, or a folder")

    def fingerprint(self) -> Any:
        return contents(self.hub)

    @property
    def special(self) -> Mapping[str, int]:
        made = _from_open_clip(self.hub)
        if hasattr(made, "eot_token_id"):
            return {"padding": 0, "begin": made.sot_token_id, "end": made.eot_token_id}
        inner = made.tokenizer
        end = inner.sep_token_id if inner.eos_token_id is None else inner.eos_token_id
        ids = {"padding": inner.pad_token_id, "begin": inner.bos_token_id, "end": end}
        return {name: id for name, id in ids.items() if id is not None}

    def size(self, state: Mapping[str, Any] | None) -> int:
        made = _from_open_clip(self.hub)
        return made.vocab_size if hasattr(made, "vocab_size") else len(made.tokenizer)

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        ids = _from_open_clip(self.hub)([well_formed(text)], context_length=length)[0].tolist()
        padding = self.special.get("padding", 0)
        while ids and ids[-1] == padding:
            ids.pop()
        return ids

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        made, special = _from_open_clip(self.hub), set(self.special.values())
        if hasattr(made, "eot_token_id"):
            ids = [i for i in ids if i not in special - {0}]
            return made.decode(ids).strip()
        return made.tokenizer.decode(list(ids), skip_special_tokens=True)


@lru_cache(maxsize=16)
def _text_of(url: str) -> str:
    import fsspec

    try:
        with fsspec.open(url, "rt", encoding="utf-8") as file:
            return file.read()  # type: ignore[union-attr]
    except (OSError, ValueError) as error:
        raise ComponentError(f"the tokenizer file {url} cannot be read: {error}") from error


@lru_cache(maxsize=16)
def _from_file(text: str, length: int | None) -> Any:
    from tokenizers import Tokenizer as Pieces

    try:
        pieces = Pieces.from_str(text)
    except Exception as error:  # the library raises plain exceptions
        raise ComponentError(f"this is no tokenizer.json of the tokenizers library: {error}") from error
    pieces.no_padding()
    if length is None:
        pieces.no_truncation()
    else:
        pieces.enable_truncation(max_length=length)
    return pieces


@lru_cache(maxsize=8)
def _from_transformers(hub: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    where = str(folder_of(hub)) if is_local(hub) else hub
    try:
        return AutoTokenizer.from_pretrained(where, revision=revision)
    except (OSError, ValueError) as error:
        raise ComponentError(f"transformers finds no tokenizer in {hub}: {first_line(error)}") from error


@lru_cache(maxsize=8)
def _from_open_clip(hub: str) -> Any:
    import open_clip

    name = hub
    if is_local(hub):
        name = f"local-dir:{folder_of(hub, 'open_clip_config.json')}"
    elif not hub.startswith("hf-hub:"):
        # The library would take its own byte pairs for any name.
        known_to_open_clip(hub)
    try:
        return open_clip.get_tokenizer(name)
    except (OSError, ValueError) as error:
        raise ComponentError(f"open_clip finds no tokenizer for {hub}: {first_line(error)}") from error
