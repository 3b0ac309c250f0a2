"""The source `noisy`: another source with a stated share of wrong labels or wrong pairs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Source, TensorType, address, describe, read_sample, with_random_access

Share = Annotated[float, Field(ge=0, le=1)]


class Noisy(Source, name="noisy"):
    """Samples of `of` with wrong values planted in a share of them, and the truth beside.

    `labels` gives the share of samples whose class becomes another one, drawn evenly, for each field; `pairs` the share
    whose value is that of another sample (a caption of another image). Adds for each `noisy.FIELD`, whether it was
    changed, and `true.FIELD`, its true value. The choice depends on `seed` and the ids.
    """

    example: ClassVar[str] = "{use: noisy, of: {use: shapes}, labels: {label: 0.4}, pairs: {caption: 0.2}}"

    of: Source
    labels: dict[str, Share] = Field({})
    pairs: dict[str, Share] = Field({})
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    @model_validator(mode="after")
    def _something(self) -> Noisy:
        if not self.labels and not self.pairs:
            raise ValueError("give `labels` or `pairs`")
        both = set(self.labels) & set(self.pairs)
        if both:
            raise ValueError(f"{min(both)!r} stands in `labels` and in `pairs`")
        return self

    def fields(self) -> Mapping[str, TensorType]:
        if not isinstance(self.of, Source):
            raise ComponentError(f"{self.of}: a source inside a source is written out", expected="{use: NAME, ...}")
        inner = with_random_access(self.of).fields()
        added: dict[str, TensorType] = {}
        for name in (*self.labels, *self.pairs):
            if name not in inner or name == "id":
                raise ComponentError(f"{describe(self.of)} has no field {name!r} to corrupt", found=name)
            if name in self.labels and (inner[name].modality != "label" or len(inner[name].names) < 2):
                raise ComponentError(f"field {name!r} is no label with several classes", found=inner[name].modality)
            if name in self.labels and len(inner[name].axes) > 1:
                raise ComponentError(
                    f"field {name!r} has several labels a sample", found=f"axes {', '.join(inner[name].axes)}",
                    expected="one label a sample",
                )  # fmt: skip
            if f"noisy.{name}" in inner:
                raise ComponentError(f"field {name!r} is corrupted already in {describe(self.of)}", found=name)
            added[f"true.{name}"] = inner[name]
            added[f"noisy.{name}"] = TensorType("label", dtype="bool", names=("no", "yes"))
        return {**inner, **added}

    def open(self) -> NoisyReader:
        return NoisyReader(self)

    def fingerprint(self) -> Any:
        return self.of.fingerprint()


class NoisyReader:
    """Changes values as they are read."""

    def __init__(self, source: Noisy) -> None:
        self.source, self.types = source, source.fields()
        self.inner = source.of.open()
        own = (*source.labels, *source.pairs)
        self._behind = {f"{kind}.{name}": name for name in own for kind in ("true", "noisy")}

    @property
    def in_process(self) -> bool:
        return bool(getattr(self.inner, "in_process", False))

    def __len__(self) -> int:
        return len(self.inner)

    def id(self, index: int) -> str:
        return self.inner.id(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        wanted = set(self.types if fields is None else fields)
        # Of a field that was changed, the wanted name may be that of the truth or of the mark.
        inner = {self._behind.get(name, name) for name in wanted}
        sample = dict(read_sample(self.inner, index, inner))
        for name, share in self.source.labels.items():
            if name in inner:
                self._change_label(sample, name, share, index)
        for name, share in self.source.pairs.items():
            if name in inner:
                self._change_pair(sample, name, share, index)
        return {name: value for name, value in sample.items() if name in wanted or name == "id"}

    def static(self) -> Mapping[str, Any]:
        return self.inner.static()

    def _change_label(self, sample: dict[str, Any], name: str, share: float, index: int) -> None:
        true: int | None = sample[name]
        changed = true is not None and self._draw(name, "whether", index) < share
        sample |= {f"true.{name}": true, f"noisy.{name}": changed}
        if true is not None and changed:
            classes = len(self.types[name].names)
            sample[name] = (true + 1 + int(self._draw(name, "which", index) * (classes - 1))) % classes

    def _change_pair(self, sample: dict[str, Any], name: str, share: float, index: int) -> None:
        changed = len(self) > 1 and self._draw(name, "whether", index) < share
        sample |= {f"true.{name}": sample[name], f"noisy.{name}": changed}
        if changed:
            other = (index + 1 + int(self._draw(name, "which", index) * (len(self) - 1))) % len(self)
            sample[name] = read_sample(self.inner, other, (name,))[name]

    def _draw(self, field: str, what: str, index: int) -> float:
        return address(self.source.seed, "noisy", field, what, self.inner.id(index)) / 2**63
