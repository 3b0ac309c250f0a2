"""The base of the tokenizers that come from files."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin import Tokenizer


class LoadedTokenizer(Tokenizer):
    """Base of the tokenizers that come from files: nothing is learned, and `special` is read from the files.

    The ids are the library's own, begin and end as it adds them; a text is cut to `length` in the library's way.
    """

    @property
    def special(self) -> Mapping[str, int]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {}
