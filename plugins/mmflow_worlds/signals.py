"""Worlds of signals: tones and rhythms with words and pictures (`sounds`), motifs in noise (`series`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_worlds.world import World

PITCHES = {"low": 220.0, "middle": 440.0, "high": 880.0}
"""Frequency of each pitch in hertz, before a detuning of at most 3 %."""
TIMBRES = ("pure", "rough", "hollow")
BEATS = ("one beat", "two beats", "three beats", "four beats")
RHYTHMS = tuple("".join("x" if number >> slot & 1 else "-" for slot in range(len(BEATS))) for number in range(1, 16))
"""Which of the four parts of a sound hold a beat, as in "x-xx"."""
LASTS = 0.7
"""How long a beat sounds, as a share of its quarter of the sound."""


class Sounds(World, name="sounds"):
    """Beats of a tone: so many, of a pitch and a timbre, with words and a picture that match.

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

        picture = (self.pixels, self.pixels, 3)
        return {
            "id": TensorType("id"),
            "audio": TensorType("audio", size=(round(self.seconds * self.rate),)),
            "caption": TensorType("text"),
            "image": TensorType("image", size=picture, dtype="uint8"),
            "video": TensorType("video", ("sample", "frame"), picture, "uint8", groups=(self.frames,)),
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
            sample["image"] = self._picture(pitch, timbre, onsets)
        if "video" in wanted:
            middles = (np.arange(self.frames) + 0.5) * self.seconds / self.frames
            sounding = [[onset for onset in onsets if onset <= time < onset + LASTS * slot] for time in middles]
            sample["video"] = np.stack([self._picture(pitch, timbre, now) for now in sounding])
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

    def _picture(self, pitch: int, timbre: int, onsets: list[float]) -> Any:
        from mmflow_worlds import drawing, scenes

        shape = ("circle", "square", "ring")[timbre]
        things = tuple(
            scenes.Thing(shape, "", "", "", 0.1 + 0.8 * onset / self.seconds, 0.8 - 0.3 * pitch, 0.1, (230, 230, 230))
            for onset in onsets
        )
        return drawing.render(scenes.Scene(things, "", (20, 20, 20), ()), self.pixels)


MOTIFS = ("step", "bump", "ramp", "sine", "sawtooth", "double bump")


class Series(World, name="series"):
    """Series of several channels in which one motif stands, shifted and in noise.

    Fields: `series` (float32 [length, channels]; NaN-free, zero where `missing`), `missing` (bool [length, channels]),
    `label` (the motif), `caption` ("a bump in channel two"), `channel`, `at` (where the motif begins, in steps),
    `height` (of the motif), `clean` (the series without noise and gaps).
    """

    example: ClassVar[str] = "data: {train: {use: series, split: train, size: 2000, length: 96}}"

    length: int = Field(96, ge=32, le=4096)
    channels: int = Field(2, ge=1, le=4)
    noise: float = Field(0.1, ge=0)
    gaps: float = Field(0.1, ge=0, le=0.9, description="share of steps that are missing, in runs")

    def fields(self) -> Mapping[str, TensorType]:
        shape = (self.length, self.channels)
        return {
            "id": TensorType("id"),
            "series": TensorType("series", size=shape),
            "clean": TensorType("series", size=shape),
            "missing": TensorType("mask", size=shape, dtype="bool"),
            "label": TensorType("label", dtype="int64", names=MOTIFS),
            "channel": TensorType("label", dtype="int64", names=("one", "two", "three", "four")[: self.channels]),
            "caption": TensorType("text"),
            "at": TensorType("number"),
            "height": TensorType("number"),
        }

    def draw(self, generator: Any, wanted: Collection[str]) -> dict[str, Any]:
        import numpy as np

        label, channel = int(generator.integers(len(MOTIFS))), int(generator.integers(self.channels))
        span = self.length // 4
        at = int(generator.integers(self.length - span))
        height = float(generator.uniform(0.8, 1.2))
        clean = np.zeros((self.length, self.channels), dtype=np.float32)
        clean[at : at + span, channel] = height * motif(MOTIFS[label], span)
        if MOTIFS[label] == "step":
            clean[at + span :, channel] = height
        missing = np.zeros((self.length, self.channels), dtype=bool)
        run = max(2, self.length // 24)
        for _ in range(round(self.gaps * self.length * self.channels / run)):
            begin = int(generator.integers(self.length - run))
            missing[begin : begin + run, int(generator.integers(self.channels))] = True
        noise = generator.standard_normal(clean.shape, dtype=np.float32)
        series = np.where(missing, np.float32(0), clean + np.float32(self.noise) * noise)
        number = ("one", "two", "three", "four")[channel]
        return {
            "series": series.astype(np.float32), "clean": clean, "missing": missing, "label": label, "at": float(at),
            "height": height, "channel": channel, "caption": f"a {MOTIFS[label]} in channel {number}",
        }  # fmt: skip


def motif(name: str, span: int) -> Any:
    """A motif of height 1 over `span` steps, float64 [span]."""
    import numpy as np

    x = (np.arange(span) + 0.5) / span
    return {
        "step": np.ones(span), "bump": np.exp(-((x - 0.5) ** 2) / 0.02), "ramp": x, "sine": np.sin(2 * math.pi * 2 * x),
        "sawtooth": 2 * (3 * x % 1) - 1, "double bump": np.exp(-((x - 0.25) ** 2) / 0.005)
        + np.exp(-((x - 0.75) ** 2) / 0.005),
    }[name]  # fmt: skip
