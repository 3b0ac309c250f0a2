"""The tokenizer of a transformers model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmflow_encoders.tokenizers.framing import well_formed
from mmflow_pretrained.folders import contents
from mmflow_pretrained.tokenizers import LoadedTokenizer

from mmflow.plugin import Field, outside_identity
from mmflow_transformers.loading import load


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
        return load("AutoTokenizer", self.hub, self.revision)
