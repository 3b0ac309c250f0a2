"""Videos, sounds and series: what they hold is read back from them."""

from __future__ import annotations

import numpy as np
import pytest
from mmflow_worlds.motions import VERBS, Motions
from mmflow_worlds.signals import MOTIFS, PITCHES, TIMBRES, Series, Sounds, motif

from mmflow.data import ColumnRequest, scan
from mmflow.plugin import Source
from mmflow.spec.target import Target


def centre_and_size(frame: np.ndarray) -> tuple[float, float, float]:
    seen = np.abs(frame.astype(int) - frame[0, 0].astype(int)).max(-1) / 255
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return float((seen * columns).sum() / seen.sum()), float((seen * rows).sum() / seen.sum()), float(seen.sum())


def verb_of(frames: np.ndarray) -> str:
    """What happens in some frames, told by how the centre and the area change."""
    first, last = centre_and_size(frames[0]), centre_and_size(frames[-1])
    dx, dy, growth = last[0] - first[0], last[1] - first[1], np.log(last[2] / first[2])
    if abs(growth) > 0.25:
        return "grows" if growth > 0 else "shrinks"
    if max(abs(dx), abs(dy)) < 0.6:
        return "stays"
    if abs(dx) > abs(dy):
        return "moves right" if dx > 0 else "moves left"
    return "moves down" if dy > 0 else "moves up"


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_verbs_are_read_back_from_the_frames(steps: int) -> None:
    source = Motions(size=80, frames=12, steps=steps, pixels=64)
    reader = source.open()
    for index in range(len(reader)):
        sample = reader[index]
        verbs = [VERBS[number] for number in sample["steps"]]
        for step, verb in enumerate(verbs):
            assert verb_of(sample["video"][sample["step_of"] == step]) == verb
        assert sample["caption"].endswith(" then ".join(verbs))
        assert sample["label"] == sample["steps"][0]
        if steps > 1:
            assert sample["order_changed"].endswith(" then ".join(reversed(verbs)))
            assert sample["order_changed"] != sample["caption"]
        assert (sample["boxes"] >= 0).all()
        assert (sample["boxes"] <= 64).all()
        for frame, mask, box in zip(sample["video"], sample["masks"], sample["boxes"], strict=True):
            x, y, _ = centre_and_size(frame)
            assert box[0] <= x <= box[2]
            assert box[1] <= y <= box[3]
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert np.allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], box, atol=1.6)


def test_videos_are_joined_with_their_frames() -> None:
    requests = [ColumnRequest(name, Target("fields", name)) for name in ("video", "boxes", "steps", "step_of")]
    (batch,) = scan(Motions(size=3), {}, requests, batch_size=3)
    assert batch.columns["video"].values.shape == (3, 12, 3, 32, 32)
    assert batch.columns["video"].axes == ("sample", "frame")
    assert batch.columns["boxes"].values.shape == (3, 12, 4)
    assert batch.columns["steps"].values.shape == (3, 2)
    assert batch.columns["step_of"].values.shape == (3, 12)


def test_pitch_timbre_and_beats_are_heard() -> None:
    source = Sounds(size=120, noise=0.002)
    reader = source.open()
    for index in range(len(reader)):
        sample = reader[index]
        sound = sample["audio"]
        assert sound.shape == (8000,)
        spectrum = np.abs(np.fft.rfft(sound))
        # One bin is one hertz; harmonics are weaker than the fundamental.
        fundamental = int(spectrum.argmax())
        pitch = min(PITCHES, key=lambda name, heard=fundamental: abs(np.log(PITCHES[name] / heard)))
        assert source.fields()["pitch"].names[sample["pitch"]] == pitch

        def line(harmonic: int, spectrum: np.ndarray = spectrum, base: int = fundamental) -> float:
            around = spectrum[round(harmonic * base * 0.97) : round(harmonic * base * 1.03) + 1]
            return float(around.max(initial=0) / spectrum.max())

        timbre = "rough" if line(2) > 0.2 else "hollow" if line(3) > 0.15 else "pure"
        assert TIMBRES[sample["timbre"]] == timbre
        energy = np.convolve(np.abs(sound), np.ones(80) / 80, mode="same")
        for onset in sample["onsets"]:
            begin = round(onset * 8000)
            assert energy[begin + 120] > 3 * energy[max(0, begin - 120)] or onset < 0.02
        assert len(sample["onsets"]) == sample["beats"] + 1
        assert sample["caption"].startswith(source.fields()["beats"].names[sample["beats"]])
        bright = sample["image"].max(-1) > 120
        rows = np.flatnonzero(bright.any(1)).mean() / 32
        assert 2 - round((rows - 0.2) / 0.3) == sample["pitch"]


def test_motifs_are_found_where_they_are_said_to_be() -> None:
    source = Series(size=150, noise=0.02, gaps=0.05)
    reader = source.open()
    span = source.length // 4
    for index in range(len(reader)):
        sample = reader[index]
        assert np.isfinite(sample["series"]).all()
        assert (sample["series"][sample["missing"]] == 0).all()
        kept = ~sample["missing"]
        assert np.abs(sample["series"] - sample["clean"])[kept].max() < 0.12
        channel, at = sample["channel"], int(sample["at"])
        others = np.delete(sample["clean"], channel, axis=1)
        assert (others == 0).all()
        part = sample["clean"][at : at + span, channel]
        errors = {}
        for name in MOTIFS:
            shape = motif(name, span)
            scale = (part @ shape) / (shape @ shape)
            errors[name] = float(((part - scale * shape) ** 2).sum())
        assert min(errors, key=lambda name, errors=errors: errors[name]) == MOTIFS[sample["label"]]
    gaps = np.mean([Series(size=40, gaps=0.3).open()[n]["missing"].mean() for n in range(40)])
    assert 0.2 < gaps < 0.32


@pytest.mark.parametrize("source", [Motions(size=300, pixels=16), Sounds(size=300), Series(size=300)])
def test_worlds_depend_on_their_address_alone(source: Source) -> None:
    name = {"motions": "video", "sounds": "audio", "series": "series"}[source.use]
    other = source.model_copy(update={"split": "test"})
    first, again, test = source.open(), source.open(), other.open()
    np.testing.assert_equal(first[7], again[7])
    alone = first.read(7, (name,))  # type: ignore[attr-defined]
    assert np.array_equal(alone[name], first[7][name])
    seen = {first[index][name].tobytes() for index in range(100)}
    assert not seen & {test[index][name].tobytes() for index in range(100)}
    fields = set(source.fields())
    assert set(first[0]) == fields
