"""`mmflow new spec`: a spec for data at hand, from what the data hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmflow.data import count_of
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Source
from mmflow.plugin.registry import registry
from mmflow.plugin.samples import SkippedSample, read_sample
from mmflow.plugin.values import Json, RawValue, TensorType
from mmflow.spec.text.yaml_writer import flow_style

_WORDS = {"image": "image", "audio": "audio", "video": "video", "text": "caption"}
"""Names of fields, by modality."""
LOOKED_AT = 64
"""Samples that are read to see how large their values are."""
_MEDIA = ("image", "video", "audio", "series", "text")
"""Modalities that encoders of our own read, the richer ones first."""
_TEST_SHARE = 0.2
_BATCH = 64
_STEPS = 400
"""Steps that small data need at least."""
_EPOCHS = 10


@dataclass(frozen=True)
class Seen:
    """What was found in data: types, counts, and sizes of the first samples."""

    declaration: Mapping[str, Json]
    rows: int | None
    fields: Mapping[str, TensorType]
    side: int
    """Of the smaller images, in pixels."""
    rate: int
    """Of the sounds, in samples a second."""
    length: int
    """Of the longest text, in words."""
    classes: Mapping[str, int]
    """Different values of each field with a label."""

    def of(self, *modalities: str) -> list[str]:
        """Names of the fields of some modalities, in the order of the data."""
        return [
            name for name, declared in self.fields.items() if declared.modality in modalities and not declared.static
        ]

    @property
    def media(self) -> list[str]:
        """The fields that encoders can read, one of each modality, the richer first."""
        found = [self.of(modality)[:1] for modality in _MEDIA]
        return [name for names in found for name in names]

    @property
    def vectors(self) -> list[str]:
        return self.of("vector")

    @property
    def label(self) -> str | None:
        """The field to classify by: the one with the fewest classes, two at least."""
        counted = {name: count for name, count in self.classes.items() if count > 1}
        return min(counted, key=lambda name: counted[name], default=None)


def spec_for(url: str, name: str = "") -> str:
    """A commented spec that trains on the data at a path or an fsspec URL, and measures on rows kept apart.

    Raises `ComponentError` where the data cannot be read, or hold nothing to learn from.
    """
    seen = look_at(url)
    lines = _lines(seen, name or _named(url))
    return "\n".join(lines) + "\n"


def look_at(url: str) -> Seen:
    """What data hold, from their declared fields and their first samples."""
    declaration = registry().plugins.hook.mmflow_source_at(url=url)
    if declaration is None:
        hint = (
            "a CSV, JSONL or Parquet file, .npz, a folder with a folder for each class, tar shards, or a saved data set"
        )
        raise ComponentError(f"no source reads {url}", found=url, expected=hint)
    source = _source(declaration)
    if declaration.get("use") == "table" and (columns := _columns(source)):
        declaration = {**declaration, "columns": columns}
        source = _source(declaration)
    fields = {name: declared for name, declared in source.fields().items() if declared.modality != "id"}
    reader = source.open()
    samples: list[Mapping[str, RawValue]] = []
    for index in range(min(LOOKED_AT, len(reader))):
        try:
            samples.append(read_sample(reader, index, tuple(fields)))
        except SkippedSample:
            continue
    images = [value.shape for name in fields if fields[name].modality == "image" for value in _values(samples, name)]
    sounds = [name for name in fields if fields[name].modality == "audio"]
    texts = [value for name in fields if fields[name].modality == "text" for value in _texts(samples, name)]
    return Seen(
        declaration=declaration,
        rows=count_of(source),
        fields=fields,
        side=min((min(shape[:2]) for shape in images), default=0),
        rate=next((rate for name in sounds if (rate := int(fields[name].rate or 0))), 0),
        length=max((len(text.split()) for text in texts), default=0),
        classes={
            name: len(declared.names) or len({str(value) for value in _values(samples, name)})
            for name, declared in fields.items()
            if declared.modality == "label"
        },
    )


def _source(declaration: Mapping[str, Json]) -> Source:
    source = Source.accept(dict(declaration))
    assert isinstance(source, Source)
    return source


def _columns(source: Source) -> dict[str, Json]:
    """Fields named by what they are, where a table has one column of a modality: `image: file_name`."""
    fields = {name: declared.modality for name, declared in source.fields().items() if declared.modality != "id"}
    names: dict[str, Json] = {}
    for name, modality in fields.items():
        word = _WORDS.get(modality, "")
        alone = list(fields.values()).count(modality) == 1 and word and word not in fields
        names[word if alone else name] = name
    return names if list(names) != list(names.values()) else {}


def _values(samples: Sequence[Mapping[str, RawValue]], name: str) -> list[RawValue]:
    return [value for sample in samples if (value := sample.get(name)) is not None]


def _texts(samples: Sequence[Mapping[str, RawValue]], name: str) -> list[str]:
    found = _values(samples, name)
    return [text for value in found for text in (value if isinstance(value, list | tuple) else [value])]


def _named(url: str) -> str:
    stem = Path(url.partition("::")[0].rstrip("/")).stem
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "new"


# --- the text ------------------------------------------------------------------------------------------


def _lines(seen: Seen, name: str) -> Iterator[str]:
    trains = bool(seen.media) and (len(seen.media) > 1 or seen.label is not None or "image" in seen.media[:1])
    if not trains and not seen.vectors:
        held = ", ".join(f"{name} ({declared.modality})" for name, declared in seen.fields.items()) or "no field"
        raise ComponentError(
            f"nothing to learn from: the data hold {held}",
            hint="images, sounds, series or texts with a second of these or with a label; or vectors, to be measured",
        )
    said = ", ".join(_held(seen, name) for name in seen.fields)
    yield "# yaml-language-server: $schema=.vscode/mmflow.schema.json"
    yield f"# Written by `mmflow new spec` for {_count(seen)} with {said}."
    yield "# `mmflow check` finds mistakes, `mmflow run` trains and measures, `mmflow show NAME` tells of a component."
    yield "mmflow: 1"
    yield f"name: {name}"
    yield "seed: 0"
    yield ""
    yield from _data(seen)
    yield from _with_training(seen) if trains else _vectors_alone(seen)


def _held(seen: Seen, name: str) -> str:
    declared = seen.fields[name]
    if name in seen.classes:
        return f"{name} (label of {seen.classes[name]} classes)"
    return f"{name} ({declared.modality})"


def _count(seen: Seen) -> str:
    return "rows" if seen.rows is None else f"{seen.rows:,} rows"


def _data(seen: Seen) -> Iterator[str]:
    yield "data:"
    yield f"  all: {flow_style(dict(seen.declaration))}"
    yield "  # Each row belongs to one part by a hash of its id. Where rows belong together (one speaker, one patient),"
    yield "  # say so with `by: FIELD`, so that none of a group is in both."
    for part in ("train", "test"):
        parts = {"train": 1 - _TEST_SHARE, "test": _TEST_SHARE}
        yield f"  {part}: {flow_style({'use': 'split', 'of': 'data.all', 'parts': parts, 'part': part})}"
    yield ""


def _encoder(seen: Seen, field: str, of: str) -> tuple[dict[str, Json], str]:
    """An encoder of our own that learns from little, and why it is this one."""
    modality = seen.fields[field].modality
    head = {"use": "linear", "dim": 64}
    if modality == "image":
        size = max(16, min(64, seen.side // 16 * 16 or 32))
        made = {"use": "convnet4", "of": of, "size": size, "width": 48, "norm": "group", "head": head}
        return made, "small images and few rows; a pretrained one: {use: timm, of: image, hub: vit_small_patch16_224}"
    if modality == "video":
        return {
            "use": "video_transformer",
            "of": of,
            "size": 32,
            "width": 64,
            "depth": 2,
            "head": head,
        }, "frame by frame"
    if modality == "text":
        length = max(16, min(256, 2 * seen.length + 2))
        made = {"use": "text_transformer", "of": of, "width": 96, "depth": 1, "length": length, "head": head}
        why = "its words are learned from the training texts; {use: sentence_transformers, ...} is a pretrained one"
        return made, why
    return {"use": "series_conv", "of": of, "width": 96, "depth": 4, "head": head}, "convolutions over time"


def _with_training(seen: Seen) -> Iterator[str]:
    media = seen.media
    views = {
        field: {"of": field, "apply": [{"use": "log_mel", "rate": seen.rate or 16000, "mels": 40}]}
        for field in media
        if seen.fields[field].modality == "audio"
    }
    alone = len(media) == 1 and seen.label is None
    if alone:
        views["two"] = {"of": media[0], "copies": 2, "apply": [{"use": "random_resized_crop"}, "flip", "color_jitter"]}
    names = {field: f"{field}_mel" if field in views else field for field in media}
    if views:
        yield "views:"
        for field, view in views.items():
            yield f"  {names.get(field, field)}: {flow_style(view)}"
        yield ""
    yield "encoders:"
    for field in media:
        made, why = _encoder(seen, field, "two" if alone else names[field])
        yield f"  # {why[0].upper()}{why[1:]}."
        yield f"  {field}: {flow_style(made)}"
    classes = seen.classes.get(seen.label or "", 0)
    if len(media) == 1 and seen.label is not None:
        yield "  # A logit for each class."
        yield f"  logits: {flow_style({'use': 'linear', 'of': media[0], 'dim': classes})}"
    yield ""
    yield "losses:"
    yield from _losses(seen, alone)
    yield ""
    yield from _train(seen)
    yield ""
    yield "eval:"
    yield from _evaluation(seen, list(media))


def _losses(seen: Seen, alone: bool) -> Iterator[str]:
    media = seen.media
    if alone:
        yield "  # Two views of an image are alike, and unlike those of others (SimCLR)."
        yield f"  views: {flow_style({'use': 'supcon', 'of': [f'{media[0]}.0', f'{media[0]}.1'], 'temperature': 0.2})}"
        return
    if len(media) == 1:
        yield f"  classify: {flow_style({'use': 'cross_entropy', 'of': 'logits', 'labels': seen.label})}"
        return
    yield "  # What belongs together is alike, and unlike the other rows of the batch (CLIP)."
    for place, first in enumerate(media):
        for second in media[place + 1 :]:
            learned = {"use": "learned", "init": 0.07, "min": 0.01}
            loss = {"use": "infonce", "of": [first, second], "temperature": learned}
            yield f"  {first}_{second}: {flow_style(loss)}"


def _train(seen: Seen) -> Iterator[str]:
    rows = max(1, round((seen.rows or 10_000) * (1 - _TEST_SHARE)))
    batch = min(_BATCH, max(4, rows // 4))
    epochs = max(_EPOCHS, -(-_STEPS * batch // rows))
    yield "train:"
    yield "  data: train"
    yield f"  # {max(1, rows // batch) * epochs:,} steps. More epochs help while the measures below still rise."
    yield f"  epochs: {epochs}"
    yield f"  batch_size: {batch}"
    yield "  optimizer: {use: adamw, lr: 0.001}"
    yield "  schedule: {use: cosine, warmup: 0.1}"


def _evaluation(seen: Seen, encoders: Sequence[str]) -> Iterator[str]:
    test = round((seen.rows or 1000) * _TEST_SHARE)
    at = [k for k in (1, 5) if k < test // 2] or [1]
    for place, first in enumerate(encoders):
        for second in encoders[place + 1 :]:
            stage = {"use": "retrieval", "data": "test", "of": [first, second], "at": at}
            yield f"  {first}_to_{second}: {flow_style(stage)}"
    if seen.label is not None:
        for name in encoders:
            probe = {"use": "linear_probe", "data": "train", "test": "test", "of": name, "labels": seen.label}
            yield f"  probe_{name}: {flow_style(probe)}"
    if len(encoders) > 1 or seen.label is None:
        yield f"  geometry: {flow_style({'use': 'geometry', 'data': 'test', 'of': list(encoders)})}"


def _vectors_alone(seen: Seen) -> Iterator[str]:
    yield "# Vectors are measured as they are; nothing is trained."
    yield "encoders:"
    for field in seen.vectors:
        yield f"  {field}: {flow_style({'use': 'l2norm', 'of': field})}"
    yield ""
    yield "eval:"
    alike = [name for name in seen.vectors if seen.fields[name].size == seen.fields[seen.vectors[0]].size]
    yield from _evaluation(seen, alike)
