"""The base of the tokenizers that come from files."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin import Tokenizer


class LoadedTokenizer(Tokenizer):
    """Base of the tokenizers that come from files: nothing is learned, `special` is read from the files."""

    @property
    def special(self) -> Mapping[str, int]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {}
