"""Sounds by a transformers feature extractor."""

from __future__ import annotations

from typing import Any, ClassVar

from mmflow_pretrained.folders import contents

from mmflow.plugin import Field, TensorType, Transform, outside_identity
from mmflow_transformers.loading import load


class HfAudio(Transform, name="hf_audio"):
    """Sounds [T] by the feature extractor of a transformers model: float32 [T'] or [frames, bands] as it gives them."""

    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = "views: {sound: {of: audio, apply: [{use: hf_audio, hub: ./wav2vec2-tiny, rate: 16000}]}}"

    hub: str = outside_identity(description="a folder with the model's configuration, or a name on the hub")
    revision: str | None = Field(None, description="of the hub's repository")
    rate: int = Field(16_000, ge=1, le=10_000_000, description="samples a second of the sound; must be the model's")

    def fingerprint(self) -> Any:
        return contents(self.hub, self.revision)

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        if not isinstance(value, np.ndarray) or value.ndim != 1:
            raise ValueError(f"hf_audio needs a sound [T], got {getattr(value, 'shape', type(value).__name__)}")
        found = load("AutoFeatureExtractor", self.hub, self.revision)(
            value, sampling_rate=self.rate, return_tensors="np"
        )  # fmt: skip
        name = next(iter(found.keys() & {"input_values", "input_features"}))
        return np.asarray(found[name][0], dtype=np.float32)

    def result(self, field: TensorType) -> TensorType:
        if field.modality not in ("audio", "series") or len(field.size) > 1:
            raise ValueError(f"hf_audio needs a sound [T], got {field.modality} {list(field.size)}")
        extractor = load("AutoFeatureExtractor", self.hub, self.revision)
        if extractor.sampling_rate != self.rate:
            raise ValueError(f"the model wants {extractor.sampling_rate} samples a second, `rate` is {self.rate}")
        if extractor.model_input_names[0] == "input_values":
            return field.with_(modality="audio", size=(None,))
        return field.with_(modality="series", size=(None, None))
