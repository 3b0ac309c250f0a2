"""Sources: samples of any fields around planted classes, a graph of three kinds of nodes, prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from mmflow.plugin import Field, Source, TensorType, numpy_generator

Kind = Literal["image", "video", "sound", "text", "label", "flag", "number", "regions", "id", "boxes"]
COLORS = ("red", "green", "blue", "gray")


class Planted(Source, name="planted"):
    """Samples of a few classes with fields of any kind, each of which shows the class. `rare` fields are absent in
    every third sample; `classes` is a static field with a text for each class."""

    holds: dict[str, Kind]
    classes: int = Field(4, ge=2, le=4)
    size: int = Field(48, ge=1)
    pixels: int = 16
    frames: int = 4
    rare: tuple[str, ...] = ()
    named: str = Field("", description="the static field with the names of the classes, row axis class")
    seed: int = 0

    def fields(self) -> Mapping[str, TensorType]:
        names = COLORS[: self.classes]
        shape = (self.pixels, self.pixels, 3)
        known = {
            "image": TensorType("image", size=shape, dtype="uint8"),
            "video": TensorType("video", ("sample", "frame"), shape, "uint8", groups=(self.frames,)),
            "sound": TensorType("series", size=(512,)),
            "text": TensorType("text"),
            "label": TensorType("label", dtype="int64", names=names),
            "flag": TensorType("number"),
            "number": TensorType("number"),
            "regions": TensorType("series", size=(5, 8)),
            "id": TensorType("id"),
            "boxes": TensorType("boxes", size=(None, 4)),
        }
        found = {"id": TensorType("id"), **{name: known[kind] for name, kind in self.holds.items()}}
        if self.named:
            found[self.named] = TensorType("text", ("class",), names=names)
        return found

    def open(self) -> PlantedReader:
        return PlantedReader(self)


class PlantedReader:
    def __init__(self, source: Planted) -> None:
        self.source = source

    def __len__(self) -> int:
        return self.source.size

    def id(self, index: int) -> str:
        return f"{self.source.seed}-{index}"

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        source = self.source
        label = index % source.classes
        found: dict[str, Any] = {"id": self.id(index)}
        for name, kind in source.holds.items():
            if fields is not None and name not in fields:
                continue
            absent = name in source.rare and index % 3 == 0
            found[name] = None if absent else self._value(kind, label, numpy_generator(source.seed, index, name))
        return found

    def _value(self, kind: Kind, label: int, generator: Any) -> Any:
        import numpy as np

        source = self.source
        if kind in ("image", "video"):
            shape = (source.pixels, source.pixels, 3)
            value = generator.integers(0, 60, size=(source.frames, *shape) if kind == "video" else shape)
            value[..., label % 3] += 150 if label < 3 else 60
            return value.astype(np.uint8)
        if kind == "sound":
            time = np.arange(512) / 8000
            wave = np.sin(2 * np.pi * 300 * (1 + label) * time + generator.uniform(0, 6))
            return (0.5 * wave + 0.05 * generator.normal(size=512)).astype(np.float32)
        if kind == "text":
            return f"a {COLORS[label]} thing number {int(generator.integers(20))}"
        if kind == "label":
            return label
        if kind == "flag":
            return float(generator.random() < 0.5)
        if kind == "number":
            return float(generator.random())
        if kind == "regions":
            value = generator.normal(size=(5, 8)) * 0.3
            value[:, label] += 1
            return value.astype(np.float32)
        if kind == "boxes":
            corner = generator.uniform(0, 0.5, size=(2, 2))
            return np.concatenate([corner, corner + 0.4], axis=1).astype(np.float32)
        return f"group-{label}"

    def static(self) -> Mapping[str, Any]:
        source = self.source
        return {source.named: [f"a {name} thing" for name in COLORS[: source.classes]]} if source.named else {}
