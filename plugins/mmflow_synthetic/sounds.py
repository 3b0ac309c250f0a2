"""Synthetic sounds: tones and rhythms with words, an image and a video that match (`sounds`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_synthetic.base import Synthetic

PITCHES = {"low": 220.0, "middle": 440.0, "high": 880.0}
"""Frequency of each pitch in hertz, before a detuning of at most 3 %."""
TIMBRES = ("pure", "rough", "hollow")
BEATS = ("one beat", "two beats", "three beats", "four beats")
RHYTHMS = tuple("".join("x" if number >> slot & 1 else "-" for slot in range(len(BEATS))) for number in range(1, 16))
"""Which of the four parts of a sound hold a beat, as in "x-xx"."""
LASTS = 0.7
"""How long a beat sounds, as a share of its quarter of the sound."""


class Sounds(Synthetic, name="sounds"):
    """Beats of a tone: so many, of a pitch and a timbre, with words and an image that match.

    Fields: `audio` (float32 [seconds * rate], in [-1, 1]), `caption` ("three beats of a high rough tone"), `image`
    (uint8 [pixels, pixels, 3]: one mark for each beat, where it begins; its height is the pitch, its form the timbre),
    `video` (uint8 [frames, pixels, pixels, 3]: in each frame the mark of the beat that sounds in its middle), `label`
    (pitch and timbre, as in "high rough"), `pitch`, `timbre`, `beats`, `rhythm` (which of the four parts of the sound
    hold a beat, as in "x-xx"), `frequency` (hertz) and `onsets` (seconds, axis `beat`). Timbres: pure is a sine, rough
    has all harmonics to the fifth, hollow the odd ones.
    """

    example: ClassVar[str] = "data: {train: {use: sounds, split: train, size: 2000}}"

    rate: int = Field(8000, ge=4000, le=48000, description="samples a second")
    seconds: float = Field(1.0, ge=0.5, le=10)
    pixels: int = Field(32, ge=16, le=512)
    frames: int = Field(8, ge=8, le=256, description="of the video, evenly spaced over the sound")
    noise: float = Field(0.01, ge=0, le=1, description="standard deviation of white noise")

    def fields(self) -> Mapping[str, TensorType]:
        def label(*names: str) -> TensorType:
            return TensorType("label", dtype="int64", names=names)

        drawn = (self.pixels, self.pixels, 3)
        return {
            "id": TensorType("id"),
            "audio": TensorType("audio", size=(round(self.seconds * self.rate),), rate=self.rate),
            "caption": TensorType("text"),
            "image": TensorType("image", size=drawn, dtype="uint8"),
            "video": TensorType("video", ("sample", "frame"), drawn, "uint8", groups=(self.frames,)),
            "label": label(*(f"{pitch} {timbre}" for pitch in PITCHES for timbre in TIMBRES)),
            "pitch": label(*PITCHES),
            "timbre": label(*TIMBRES),
            "beats": label(*BEATS),
            "rhythm": label(*RHYTHMS),
            "frequency": TensorType("number"),
            "onsets": TensorType("number", ("sample", "beat"), groups=(len(BEATS),)),
        }

    def draw(self, generator: Any, wanted: Collection[str]) -> dict[str, Any]:
        import numpy as np

        draws = generator.random(8).tolist()
        pitch, timbre, beats = int(draws[0] * 3), int(draws[1] * 3), 1 + int(draws[2] * 4)
        slot = self.seconds / len(BEATS)
        slots = np.sort(generator.permutation(len(BEATS))[:beats])
        onsets = [float(slot * (place + 0.25 * draws[4 + number])) for number, place in enumerate(slots)]
        frequency = list(PITCHES.values())[pitch] * (1 + 0.03 * (2 * draws[3] - 1))
        tone = f"{list(PITCHES)[pitch]} {TIMBRES[timbre]}"
        sample: dict[str, Any] = {
            "caption": f"{BEATS[beats - 1]} of a {tone} tone", "label": pitch * len(TIMBRES) + timbre,
            "pitch": pitch, "timbre": timbre, "beats": beats - 1, "onsets": onsets, "frequency": frequency,
            "rhythm": sum(1 << int(place) for place in slots) - 1,
        }  # fmt: skip
        noise = generator.standard_normal(round(self.seconds * self.rate), dtype=np.float32)
        if "audio" in wanted:
            sample["audio"] = self._sound(frequency, timbre, onsets, slot) + np.float32(self.noise) * noise
            np.clip(sample["audio"], -1, 1, out=sample["audio"])
        if "image" in wanted:
            sample["image"] = self._image(pitch, timbre, onsets)
        if "video" in wanted:
            middles = (np.arange(self.frames) + 0.5) * self.seconds / self.frames
            sounding = [[onset for onset in onsets if onset <= time < onset + LASTS * slot] for time in middles]
            sample["video"] = np.stack([self._image(pitch, timbre, now) for now in sounding])
        return sample

    def _sound(self, frequency: float, timbre: int, onsets: list[float], slot: float) -> Any:
        import numpy as np

        times = np.arange(round(LASTS * slot * self.rate), dtype=np.float32) / self.rate
        harmonics = ((1,), (1, 2, 3, 4, 5), (1, 3, 5))[timbre]
        wave = sum(np.sin(2 * math.pi * frequency * k * times) / k for k in harmonics if frequency * k < self.rate / 2)
        envelope = np.minimum(times / 0.005, 1) * np.exp(-times / (0.25 * slot))
        beat = (0.5 * wave * envelope / sum(1 / k for k in harmonics)).astype(np.float32)
        sound = np.zeros(round(self.seconds * self.rate), dtype=np.float32)
        for onset in onsets:
            begin = round(onset * self.rate)
            part = sound[begin : begin + len(beat)]
            part += beat[: len(part)]
        return sound

    def _image(self, pitch: int, timbre: int, onsets: list[float]) -> Any:
        from mmflow_synthetic import drawing, scenes

        shape = ("circle", "square", "ring")[timbre]
        things = tuple(
            scenes.Thing(shape, "", "", "", 0.1 + 0.8 * onset / self.seconds, 0.8 - 0.3 * pitch, 0.1, (230, 230, 230))
            for onset in onsets
        )
        return drawing.render(scenes.Scene(things, "", (20, 20, 20), ()), self.pixels)
