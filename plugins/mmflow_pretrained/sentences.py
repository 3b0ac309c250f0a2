"""Folders of sentence-transformers: a transformer, a pooling, and the head of an encoder as a dense layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmflow.plugin import ComponentError, Encoder

FORM = "sentence_transformers"


def write_sentences(
    folder: Path, modules: Sequence[Any], encoder: Encoder, head: Any, *, prompts: Mapping[str, str] | None = None,
    default: str | None = None,
) -> str:  # fmt: skip
    """Write `modules` of the library and the head of `encoder` behind them; returns lines of Python that use them.

    Raises `ComponentError` for a head that is no linear map.
    """
    from sentence_transformers import SentenceTransformer

    width = _width(modules)
    behind = [] if encoder.head is None else _head(encoder.head, head, width)
    model = SentenceTransformer(
        modules=[*modules, *behind], device="cpu", prompts=dict(prompts or {}), default_prompt_name=default
    )
    model.save(str(folder), create_model_card=False)
    return (
        "from sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer("PATH OF THIS FOLDER")\nvectors = model.encode(["a text"])'
    )


def _width(modules: Sequence[Any]) -> int:
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(modules=list(modules), device="cpu").get_sentence_embedding_dimension()
    assert found is not None
    return int(found)


def _head(declared: Encoder, head: Any, width: int) -> list[Any]:
    """The modules of the library that do what a head does."""
    from sentence_transformers import models  # pyright: ignore[reportAttributeAccessIssue]

    if declared.use == "l2norm":
        return [models.Normalize()]
    if declared.use != "linear":
        raise ComponentError(
            f"the head {declared.use} is no module of sentence-transformers",
            expected="linear or l2norm",
            hint="write mmflow's own form, or onnx",
        )
    linear = head.linear
    bias = None if linear.bias is None else linear.bias.detach().clone()
    dense = models.Dense(
        width, linear.out_features, bias=bias is not None, activation_function=head.activation,
        init_weight=linear.weight.detach().clone(), init_bias=bias,
    )  # fmt: skip
    return [dense, *([models.Normalize()] if head.l2norm else [])]


def no_head(form: str, encoder: Encoder) -> None:
    """Refuse an encoder with a head, for which a library has no place."""
    if encoder.head is not None:
        hint = "write mmflow's own form, or onnx"
        raise ComponentError(f"{form} has no place for the head of {encoder.use} ({encoder.head.use})", hint=hint)
