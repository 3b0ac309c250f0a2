"""The tokenizer of an open_clip model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from mmflow_encoders.tokenizers.framing import well_formed
from mmflow_pretrained.folders import contents, folder_of, is_local
from mmflow_pretrained.reading import reading
from mmflow_pretrained.tokenizers import LoadedTokenizer

from mmflow.plugin import outside_identity
from mmflow_open_clip.configuration import configuration_of


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


@lru_cache(maxsize=8)
def _from_open_clip(hub: str) -> Any:
    text = configuration_of(hub)[0].get("text_cfg", {})
    name = f"local-dir:{folder_of(hub)}" if is_local(hub) else hub
    # The library hands the options of a folder on to transformers; those of its caller come after them.
    options: dict[str, Any] = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
    with reading("open_clip", "tokenizer", hub):
        import open_clip

        return open_clip.get_tokenizer(name, **options)
