"""Encoders as folders of transformers and of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mmflow_pretrained.encoders import LibraryEncoder, same_model
from mmflow_pretrained.reading import reading
from mmflow_pretrained.sentences import FORM as SENTENCES
from mmflow_pretrained.sentences import no_head, write_sentences

from mmflow.plugin import ComponentError, Exported
from mmflow_transformers.description import Description, Model
from mmflow_transformers.loading import load

if TYPE_CHECKING:
    from mmflow_transformers.encoder import TransformersEncoder

FORM = "transformers"
_PREPARING = {"pixel_values": "AutoImageProcessor", "input_values": "AutoFeatureExtractor",
              "input_features": "AutoFeatureExtractor", "input_ids": "AutoTokenizer"}  # fmt: skip
_VALUES = {"AutoTokenizer": "texts, padding=True, truncation=True", "AutoImageProcessor": "images"}
_POOLED = {
    "mean": "(states * mask).sum(1) / mask.sum(1)",
    "last": "states[range(len(states)), mask.sum(1).flatten().long() - 1]",
    "cls": "states[:, 0]",
}


def forms_of(encoder: TransformersEncoder, about: Description) -> tuple[str, ...]:
    """What an encoder can be written as."""
    text = about.reads == "input_ids" and encoder.tower is None and pooling_of(encoder, about) != "library"
    return (FORM, SENTENCES) if text else (FORM,)


def pooling_of(encoder: TransformersEncoder, about: Description) -> str:
    """The pooling that runs: `library` only where the model has one of its own."""
    if encoder.pool != "library" or about.pooled or encoder.tower is not None:
        return encoder.pool
    return "last" if about.causal else "mean"


def write_model(folder: Path, parts: Sequence[Exported], model: Model) -> None:
    """Write the weights, with those of other towers from where the model comes."""
    first, module = parts[0].encoder, parts[0].module
    towers = [getattr(part.encoder, "tower", None) for part in parts]
    same_model(FORM, parts)
    if towers == [None]:
        if getattr(model.configuration(), "is_encoder_decoder", False):
            raise ComponentError(
                f"the encoder of {model.shown} is half of its model", hint="write mmflow's own form, or onnx"
            )
        _save(module, folder)
    else:
        if model.hub is None and len(towers) < 2:
            raise ComponentError(f"{model.shown} has further towers", hint="write both: --of IMAGE,TEXT")
        assert isinstance(first, LibraryEncoder)
        commit = first.commit_on_hub() if model.hub is not None else None
        whole = Model(model.hub, model.revision, model.config, None, True).build(
            commit=commit, weights=model.hub is not None
        )
        for part in parts:
            whole.load_state_dict(part.module.state_dict(), strict=False)
        _save(whole, folder)
    if model.hub is not None:
        for part in parts:
            _save_preparing(part.encoder, folder, model)


def _save(model: Any, folder: Path) -> None:
    with reading("transformers", "place to write", str(folder)):
        model.save_pretrained(folder)


def _save_preparing(encoder: Any, folder: Path, model: Model) -> None:
    kind = _PREPARING[encoder.description().reads]
    assert model.hub is not None
    made = load(kind, model.hub, model.revision)
    if kind == "AutoTokenizer":
        if encoder.tokenizer is not None:
            raise ComponentError(
                f"{FORM} has no place for the tokenizer {encoder.tokenizer.use}", hint="write mmflow's own form"
            )
        made = load.__wrapped__(kind, model.hub, model.revision)
        made.model_max_length = encoder.context()
    made.save_pretrained(folder)


def usage(parts: Sequence[Exported], folder_prepares: bool) -> str:
    """Lines of Python that give the vectors with transformers alone."""
    lines = ["import torch", "from transformers import AutoModel", "", 'place = "PATH OF THIS FOLDER"',
             "model = AutoModel.from_pretrained(place).eval()"]  # fmt: skip
    for part in parts:
        encoder: Any = part.encoder
        about = encoder.description()
        kind = _PREPARING[about.reads]
        lines += ["", f"from transformers import {kind}"]
        values = _VALUES.get(kind, "sounds")
        if folder_prepares:
            lines.append(f'given = {kind}.from_pretrained(place)({values}, return_tensors="pt")')
        else:
            lines.append(f"given = {{'{about.reads}': ...}}  # images in [-1, 1], as mmflow prepares them")
        if about.whole:
            lines[-1] = lines[-1].replace("padding=True", "padding='max_length'")
        pool = pooling_of(encoder, about)
        if encoder.tower is not None:
            masked = ("attention_mask",) if about.reads == "input_ids" and not about.whole else ()
            lines.append(f"given = {{name: given[name] for name in {(about.reads, *masked)}}}")
            lines.append(f"with torch.no_grad():\n    output = model.get_{encoder.tower}_features(**given)")
            lines.append("vectors = getattr(output, 'pooler_output', output)")
            continue
        lines.append("with torch.no_grad():\n    output = model(**given)")
        if pool == "library" and about.pooled:
            lines.append("vectors = output.pooler_output")
            continue
        real = "given['attention_mask'].unsqueeze(-1).float()" if about.reads == "input_ids" else None
        states = "output.last_hidden_state" + (f"[:, {about.prefix}:]" if about.prefix and pool == "mean" else "")
        lines += [f"states = {states}", f"mask = {real or 'torch.ones(*states.shape[:2], 1)'}"]
        lines.append(f"vectors = {_POOLED['mean' if pool == 'library' else pool]}")
    return "\n".join(lines)


def write_as_sentences(folder: Path, part: Exported, model: Model) -> str:
    """Write a text model with its pooling and head for sentence-transformers."""
    from sentence_transformers import models  # pyright: ignore[reportAttributeAccessIssue]

    encoder: Any = part.encoder
    about = encoder.description()
    if model.hub is None:
        raise ComponentError(f"{SENTENCES} needs a tokenizer of the library", hint="write mmflow's own form, or onnx")
    with TemporaryDirectory() as place:
        write_model(Path(place), [Exported(encoder, part.module, None)], model)
        transformer = models.Transformer(place, max_seq_length=encoder.context())
        mode = {"last": "lasttoken"}.get(pooling_of(encoder, about), pooling_of(encoder, about))
        pooling = models.Pooling(about.channels, pooling_mode=mode)
        return write_sentences(folder, [transformer, pooling], encoder, part.head)


def export(encoder: TransformersEncoder, form: str, folder: Path, parts: Sequence[Exported], model: Model) -> str:
    """See `Encoder.export`."""
    if form == SENTENCES:
        if len(parts) > 1:
            raise ComponentError("a folder of sentence-transformers has one encoder", hint="name it: --of NAME")
        return write_as_sentences(folder, parts[0], model)
    for part in parts:
        no_head(FORM, part.encoder)
    write_model(folder, parts, model)
    return usage(parts, model.hub is not None)
