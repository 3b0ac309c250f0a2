"""Videos, sounds and series: what they hold is read back from them."""

from __future__ import annotations

import numpy as np
import pytest
from mmflow_synthetic import drawing, scenes
from mmflow_synthetic.motions import VERBS, Motions
from mmflow_synthetic.series import MOTIFS, Series, motif
from mmflow_synthetic.sounds import PITCHES, RHYTHMS, TIMBRES, Sounds

from mmflow.data import ColumnRequest, scan
from mmflow.plugin.targets import Target


def center_and_size(frame: np.ndarray) -> tuple[float, float, float]:
    seen = np.abs(frame.astype(int) - frame[0, 0].astype(int)).max(-1) / 255
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return float((seen * columns).sum() / seen.sum()), float((seen * rows).sum() / seen.sum()), float(seen.sum())


def verb_of(frames: np.ndarray) -> str:
    """What happens in some frames, told by how the center and the area change."""
    first, last = center_and_size(frames[0]), center_and_size(frames[-1])
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
            x, y, _ = center_and_size(frame)
            assert box[0] <= x <= box[2]
            assert box[1] <= y <= box[3]
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert np.allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], box, atol=1.6)


def test_shape_color_background_and_track_are_read_back_from_the_frames() -> None:
    source = Motions(size=120, pixels=64)
    reader, types = source.open(), source.fields()
    for index in range(len(reader)):
        sample = reader[index]
        frames = sample["video"].astype(int)
        corner = frames[0, 0, 0]
        assert types["background"].names[sample["background"]] == nearest(corner, scenes.BACKGROUNDS)
        # The largest frame is the easiest to tell.
        seen = np.abs(frames - corner).max(-1) > 30
        largest = int(seen.sum((1, 2)).argmax())
        inside = frames[largest][seen[largest]]
        assert types["color"].names[sample["color"]] == nearest(np.median(inside, axis=0), scenes.COLORS)
        assert types["shape"].names[sample["shape"]] == shape_of(seen[largest])
        words = f"{types['color'].names[sample['color']]} {types['shape'].names[sample['shape']]}"
        assert words in sample["caption"]
        for one, box in zip(seen, sample["boxes"], strict=True):
            rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
            assert np.allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], box, atol=2)


def nearest(rgb: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: float(np.abs(np.array(palette[name]) - rgb).max()))


def shape_of(mask: np.ndarray) -> str:
    """The shape whose outline, scaled to the height of the mask, differs from it in the fewest pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    middle, top, height = (columns[0] + columns[-1] + 1) / 2, rows[0], rows[-1] + 1 - rows[0]

    def misfit(name: str) -> int:
        up, down = drawing.EXTENTS[name][1], drawing.EXTENTS[name][3]
        radius, side = height / (up + down), len(mask)
        drawn = scenes.Thing(
            name, "", "", "", middle / side, (top + up * radius) / side, radius / side, (0, 0, 0)
        )  # fmt: skip
        return int((drawing.mask(drawn, side) != mask).sum())

    return min(scenes.SHAPES, key=misfit)


def test_videos_are_joined_with_their_frames() -> None:
    requests = [ColumnRequest(name, Target("fields", name)) for name in ("video", "boxes", "steps", "step_of")]
    (batch,) = scan(Motions(size=3), {}, requests, batch_size=3)
    assert batch.columns["video"].values.shape == (3, 12, 3, 32, 32)
    assert batch.columns["video"].axes == ("sample", "frame")
    assert batch.columns["boxes"].values.shape == (3, 12, 4)
    assert batch.columns["steps"].values.shape == (3, 2)
    assert batch.columns["step_of"].values.shape == (3, 12)


SOUNDS = Sounds(size=120, noise=0.002, pixels=64)


def test_pitch_and_timbre_are_heard() -> None:
    reader, types = SOUNDS.open(), SOUNDS.fields()
    for index in range(len(reader)):
        sample = reader[index]
        assert sample["audio"].shape == (8000,)
        spectrum = np.abs(np.fft.rfft(sample["audio"], 32_000))
        # Four bins are one hertz; harmonics are weaker than the fundamental.
        fundamental = int(spectrum.argmax())
        # Beats are short: their lines are some hertz wide.
        assert abs(fundamental / 4 - sample["frequency"]) < 4
        heard = min(PITCHES, key=lambda name, heard=fundamental / 4: abs(np.log(PITCHES[name] / heard)))
        assert types["pitch"].names[sample["pitch"]] == heard
        harmonics = [spectrum[round(k * fundamental * 0.97) : round(k * fundamental * 1.03)].max() for k in (1, 2, 3)]
        timbre = (
            "rough" if harmonics[1] > 0.2 * harmonics[0] else "hollow" if harmonics[2] > 0.15 * harmonics[0] else "pure"
        )
        assert types["timbre"].names[sample["timbre"]] == timbre
        assert types["label"].names[sample["label"]] == f"{heard} {timbre}"
        assert f"a {heard} {timbre} tone" in sample["caption"]


def test_beats_onsets_and_rhythm_are_heard() -> None:
    reader, types = SOUNDS.open(), SOUNDS.fields()
    for index in range(len(reader)):
        sample = reader[index]
        loud = np.abs(sample["audio"]) > 0.02
        quarters = loud.reshape(4, 2000)
        assert RHYTHMS[sample["rhythm"]] == "".join("x" if quarter.any() else "-" for quarter in quarters)
        begins = [
            (place * 2000 + int(quarter.argmax())) / 8000 for place, quarter in enumerate(quarters) if quarter.any()
        ]
        assert np.allclose(begins, sample["onsets"], atol=0.004)
        assert len(begins) == sample["beats"] + 1
        assert sample["caption"].startswith(types["beats"].names[sample["beats"]])


def test_the_image_and_the_video_show_what_is_heard() -> None:
    reader = SOUNDS.open()
    for index in range(len(reader)):
        sample = reader[index]
        marks = sample["image"].max(-1) > 120
        height = np.flatnonzero(marks.any(1)).mean() / 64
        assert 2 - round((height - 0.2) / 0.3) == sample["pitch"]
        for onset in sample["onsets"]:
            left, right = (round((0.1 + 0.8 * onset + side) * 64) for side in (-0.1, 0.1))
            mark = marks[:, max(0, left) : right]
            assert mark.any()
        shown = sample["video"].max(-1) > 120
        form = shape_of(shown[int(shown.any((1, 2)).argmax())])
        assert TIMBRES[sample["timbre"]] == {"circle": "pure", "square": "rough", "ring": "hollow"}[form]
        # Where marks touch, their soft edges add up.
        assert (shown.any(0) != marks).sum() <= 12
        # A mark is lit in the frames in whose middle there is sound.
        assert (shown.any((1, 2)) == heard_in_frames(sample["audio"], 8)).all()


def heard_in_frames(audio: np.ndarray, frames: int) -> np.ndarray:
    """Whether there is sound in the three milliseconds after the middle of each frame."""
    begins = ((np.arange(frames) + 0.5) / frames * len(audio)).astype(int)
    return np.array([np.abs(audio[begin : begin + 24]).max() > 0.009 for begin in begins])


def test_marks_light_up_and_go_out_with_their_beats() -> None:
    reader = Sounds(size=40, noise=0.002, pixels=32, frames=64).open()
    right = []
    for index in range(len(reader)):
        sample = reader[index]
        right.append((sample["video"].max(-1) > 120).any((1, 2)) == heard_in_frames(sample["audio"], 64))
    # Frames in which a beat begins or ends may be taken either way.
    assert np.mean(right) > 0.97


def test_motif_channel_phase_height_and_gaps_are_read_back_from_the_series() -> None:
    """By the template, channel and place that leave the smallest error among the steps that are there."""
    source = Series(size=120, noise=0.05, gaps=0.05)
    span, length = source.length // 4, source.length
    shifts = np.arange(length - span)
    templates = np.zeros((len(MOTIFS), len(shifts), length))
    for number, name in enumerate(MOTIFS):
        for shift in shifts:
            templates[number, shift, shift : shift + span] = motif(name, span)
            if name == "step":
                templates[number, shift, shift + span :] = 1
    reader, right = source.open(), 0
    for index in range(len(reader)):
        sample = reader[index]
        series, missing = sample["series"].astype(float), sample["missing"]
        assert np.isfinite(series).all()
        assert ((series == 0) == missing).all()
        gains = []
        for channel in range(source.channels):
            fitting = templates * ~missing[:, channel]
            energy = (fitting**2).sum(-1)
            along = fitting @ series[:, channel]
            gains.append(along**2 / np.maximum(energy, 1e-9) * (along > 0))
        channel, number, at = np.unravel_index(np.argmax(gains), np.shape(gains))
        fitting = templates[number, at] * ~missing[:, channel]
        height = (fitting @ series[:, channel]) / (fitting**2).sum()
        right += (
            (int(channel), int(number)) == (sample["channel"], sample["label"])
            and abs(at - sample["at"]) <= 1
            and abs(height - sample["height"]) < 0.1
        )
        kept = ~missing
        assert np.abs(series - sample["clean"])[kept].max() < 0.3
        assert MOTIFS[sample["label"]] in sample["caption"]
        assert source.fields()["channel"].names[sample["channel"]] in sample["caption"].split()
    assert right >= 0.97 * len(reader)
    gaps = np.mean([Series(size=40, gaps=0.3).open()[n]["missing"].mean() for n in range(40)])
    assert 0.2 < gaps < 0.32
