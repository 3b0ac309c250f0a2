"""Cross-encoders of transformers, and of sentence-transformers, as scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mmflow_pretrained.bounds import checked_numbers
from mmflow_pretrained.encoders import without_memory
from mmflow_pretrained.folders import contents, folder_of, is_local
from mmflow_pretrained.hub import commit_of
from mmflow_pretrained.reading import reading

from mmflow.plugin import ComponentError, Field, Score, outside_identity
from mmflow_transformers.description import context_of
from mmflow_transformers.loading import load

if TYPE_CHECKING:
    from torch import nn


class TransformersPairs(Score, name="transformers_pairs"):
    """A cross-encoder (Nogueira and Cho, 2019) of transformers or sentence-transformers, by name or folder: both texts
    of a pair in one sequence, as its tokenizer joins them, become one number, before any activation.

    It reads the `ids` of two text encoders, which must have its tokenizer. A model without a head for classification
    gets one with weights drawn at random. Dropout is off, as scores draw nothing. Named in `parts` it is trained by a
    loss and orders what cheap vectors have found: `score: parts.judge`, `second: parts.judge`, and then `mmflow search
    RUN QUERY --rerank judge`.
    """

    needs: ClassVar[tuple[str, ...]] = ("ids",)
    extra: ClassVar[str] = "hf"
    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    example: ClassVar[str] = "parts: {judge: {use: score/transformers_pairs, hub: ./cross-encoder}}"

    hub: str = outside_identity(description="a folder with configuration, weights and tokenizer, or a name on the hub")
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    length: int = Field(512, ge=4, le=1_000_000, description="ids of a pair at most; fewer where the model reads fewer")
    rows: int = outside_identity(64, ge=1, le=1_000_000, description="pairs that are scored at a time")

    def fingerprint(self) -> Any:
        if is_local(self.hub):
            return contents(self.hub, weights=True)
        return {"name": self.hub, "commit": commit_of(self.hub, self.revision)}

    def build(self) -> nn.Module:
        from mmflow_transformers.pair_module import PairScore, joined_by

        with reading("transformers", "cross-encoder", self.hub):
            import transformers

            local = is_local(self.hub)
            where = str(folder_of(self.hub, "config.json")) if local else self.hub
            commit = None if local else commit_of(self.hub, self.revision)
            checked_numbers(transformers.PretrainedConfig.get_config_dict(where, revision=commit)[0], self.hub)
            config = transformers.AutoConfig.from_pretrained(where, revision=commit, trust_remote_code=False)
            if not any(str(name).endswith("ForSequenceClassification") for name in config.architectures or ()):
                config.num_labels = 1
            if config.num_labels != 1:
                hint = "a reranker gives one number a pair"
                raise ComponentError(f"{self.hub} gives {config.num_labels} numbers a pair", expected="1", hint=hint)
            kind: Any = transformers.AutoModelForSequenceClassification
            if without_memory():
                model = kind.from_config(config)
            else:
                model, loaded = kind.from_pretrained(
                    where, config=config, revision=commit, trust_remote_code=False, output_loading_info=True
                )
                lost = sorted(n for n in loaded["missing_keys"] if n.startswith(f"{model.base_model_prefix}."))
                lost = [name for name in lost if "pooler" not in name]
                if lost:
                    raise ComponentError(f"the weights of {self.hub} lack {', '.join(lost[:4])}")
                model = model.float()
        joined = joined_by(load("AutoTokenizer", self.hub, self.revision))
        context = context_of(config) or self.length
        return PairScore(model, joined, min(self.length, context), self.rows)
