"""Films cut into shots, boxes found in them, tracks of the boxes, triplets from the tracks, people as clusters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import (
    Column,
    DataStage,
    Encoder,
    Labels,
    Pooled,
    RawField,
    Ref,
    Refs,
    Stage,
    StageContext,
    StageInputs,
    TensorType,
    numpy_generator,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor

CROP = TensorType("image", size=(16, 16, 3), dtype="uint8")
LABEL = TensorType("label", dtype="int64")


def pixels(value: Any) -> Any:
    """An image [H, W, 3] in uint8 of one as rows have it, float [3, H, W]."""
    import numpy as np

    found = np.asarray(value, np.float32)
    found = found.transpose(1, 2, 0) if found.shape[0] == 3 else found
    return (found * 255).round().astype(np.uint8) if found.max(initial=0) <= 1 else found.astype(np.uint8)


class SplitShots(DataStage, name="split_shots"):
    """Each film in two shots, of half the frames each."""

    gives = {"shots": "Data"}
    frames: Ref[RawField]
    identity: Ref[Labels]

    def depends_on_seed(self) -> bool:
        return False

    def outputs(self, given: StageInputs) -> Mapping[str, Mapping[str, TensorType]]:
        clip = given.of("frames").with_(groups=(2,))
        return {"shots": {"clip": clip, "identity": given.of("identity"), "film": TensorType("id", dtype="str")}}

    def run(self, context: StageContext) -> None:
        import numpy as np

        rows = context.rows("frames", "identity")
        fields: dict[str, list[Any]] = {"clip": [], "identity": [], "film": []}
        ids = []
        for id, frames, identity in zip(rows.ids, rows["frames"], rows["identity"].tolist(), strict=True):
            frames = np.stack([pixels(frame) for frame in frames])
            for place in (0, 1):
                ids.append(f"{id}/{place}")
                half = len(frames) // 2
                fields["clip"].append(frames[place * half : (place + 1) * half])
                fields["identity"].append(identity)
                fields["film"].append(id)
        context.write_data("shots", ids, fields, dict(self.outputs_of(context)))

    def outputs_of(self, context: StageContext) -> Mapping[str, TensorType]:
        found = context.scope.given()["shots"]
        assert isinstance(found, Mapping)
        return found


class PlantedDetector(Encoder, name="planted_detector"):
    """Finds one box in every frame: the whole."""

    of: Refs[Pooled | RawField] = ()

    def apply(self, image: Tensor) -> Tensor:
        return image


class Detect(SplitShots, name="detect"):
    """A box in each frame of each shot: its crop, a feature, the number of its frame."""

    gives = {"boxes": "Data"}
    of: Ref[RawField]
    frames: Ref[RawField] | None = None  # type: ignore[assignment]
    detector: Encoder

    def outputs(self, given: StageInputs) -> Mapping[str, Mapping[str, TensorType]]:
        number = TensorType("number")
        return {
            "boxes": {
                "crop": CROP, "feature": TensorType("vector", size=(3,)), "frame": number,
                "identity": given.of("identity"), "shot": TensorType("id", dtype="str"),
            }
        }  # fmt: skip

    def run(self, context: StageContext) -> None:
        import numpy as np

        rows = context.rows("of", "identity")
        fields: dict[str, list[Any]] = {name: [] for name in ("crop", "feature", "frame", "identity", "shot")}
        ids = []
        for id, frames, identity in zip(rows.ids, rows["of"], rows["identity"].tolist(), strict=True):
            for place, frame in enumerate(frames):
                crop = pixels(frame)
                ids.append(f"{id}/{place}")
                values = (crop, crop.mean((0, 1)).astype(np.float32) / 255, float(place), identity, id)
                for name, value in zip(fields, values, strict=True):
                    fields[name].append(value)
        types = context.scope.given()["boxes"]
        assert isinstance(types, Mapping)
        context.write_data("boxes", ids, fields, types)


class MincostTracks(DataStage, name="mincost_tracks"):
    """Boxes that follow each other are one track where they look alike."""

    gives = {"track": "Column"}
    appearance: Ref[RawField]
    frame: Ref[RawField]

    def depends_on_seed(self) -> bool:
        return False

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"track": LABEL}

    def run(self, context: StageContext) -> None:
        import torch

        rows = context.rows("appearance", "frame")
        x, frame = torch.as_tensor(rows["appearance"]), torch.as_tensor(rows["frame"])
        tracks, number = [], -1
        for place in range(len(x)):
            follows = place > 0 and frame[place] > frame[place - 1] and (x[place] - x[place - 1]).norm() < 0.2
            number += 0 if follows else 1
            tracks.append(number)
        context.write_column("track", rows.ids, tracks)


class MineTrackTriplets(DataStage, name="mine_track_triplets"):
    """Two boxes of one track and one of another, drawn."""

    gives = {"triplets": "Data"}
    crop: Ref[RawField]
    tracks: Ref[Column]
    per_film: int = 100

    def outputs(self, given: StageInputs) -> Mapping[str, Mapping[str, TensorType]]:
        return {"triplets": dict.fromkeys(("anchor", "positive", "negative"), CROP)}

    def run(self, context: StageContext) -> None:
        rows, column = context.rows("crop"), context.column("tracks")
        crops = [pixels(value) for value in rows["crop"]]
        track = dict(zip(column.ids, column.values, strict=True))
        draw = numpy_generator(context.scope.seed, "triplets")
        fields: dict[str, list[Any]] = {"anchor": [], "positive": [], "negative": []}
        for _ in range(self.per_film):
            anchor = int(draw.integers(len(crops)))
            own = [n for n, id in enumerate(rows.ids) if track[id] == track[rows.ids[anchor]]]
            other = [n for n, id in enumerate(rows.ids) if track[id] != track[rows.ids[anchor]]]
            for name, place in zip(fields, (anchor, draw.choice(own), draw.choice(other)), strict=True):
                fields[name].append(crops[int(place)])
        ids = [f"t{n}" for n in range(self.per_film)]
        context.write_data("triplets", ids, fields, dict.fromkeys(fields, CROP))


class ConstrainedDbscan(Stage, name="constrained_dbscan"):
    """Rows that lie near each other or are of one track are one cluster."""

    gives = {"cluster": "Column"}
    of: Ref[Column]
    same_track: Ref[Column]

    def depends_on_seed(self) -> bool:
        return False

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"cluster": LABEL}

    def run(self, context: StageContext) -> None:
        import numpy as np

        ids, values = context.column("of").present()
        x, column = np.stack([np.asarray(value) for value in values]), context.column("same_track")
        track = dict(zip(column.ids, column.values, strict=True))
        least = np.median(np.linalg.norm(x[:, None] - x[None], axis=-1)) / 4
        cluster = list(range(len(ids)))
        for i in range(len(ids)):
            for j in range(i):
                if track[ids[i]] == track[ids[j]] or np.linalg.norm(x[i] - x[j]) < least:
                    cluster = [cluster[j] if c == cluster[i] else c for c in cluster]
        names = {c: number for number, c in enumerate(dict.fromkeys(cluster))}
        context.write_column("cluster", ids, [names[c] for c in cluster])


class Exemplars(Stage, name="exemplars"):
    """The row nearest to the mean of each cluster, in a file."""

    gives = {"chosen": "Files"}
    of: Ref[Column]
    groups: Ref[Column]

    def depends_on_seed(self) -> bool:
        return False

    def run(self, context: StageContext) -> None:
        import numpy as np

        ids, values = context.column("of").present()
        column = context.column("groups")
        group = dict(zip(column.ids, column.values, strict=True))
        found = {}
        for cluster in sorted(set(group.values())):
            own = [(id, np.asarray(value)) for id, value in zip(ids, values, strict=True) if group[id] == cluster]
            mean = np.mean([value for _, value in own], axis=0)
            found[int(cluster)] = min(own, key=lambda each: float(((each[1] - mean) ** 2).sum()))[0]
        (context.write_files("chosen") / "exemplars.json").write_text(json.dumps(found))
