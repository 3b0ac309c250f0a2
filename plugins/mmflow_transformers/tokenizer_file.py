"""A `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from mmflow_encoders.tokenizers.framing import well_formed
from mmflow_pretrained.tokenizers import LoadedTokenizer

from mmflow.plugin import ComponentError, Field, by_content, text_of


class TokenizerFile(LoadedTokenizer, name="tokenizer_file"):
    """A `tokenizer.json` of the tokenizers library, from any fsspec URL."""

    requires: ClassVar[tuple[str, ...]] = ("tokenizers",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = (
        "{use: text_transformer, of: caption, tokenizer: {use: tokenizer_file, url: tokenizer.json}}"
    )

    url: str = by_content(description="the file")
    end: str | None = Field(None, description="the token that ends a text, where an encoder reads its state")

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


@lru_cache(maxsize=16)
def _text_of(url: str) -> str:
    try:
        return text_of(url)
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
