"""Detections: against pycocotools, torchvision and loops."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.detection import average_precision as of
from mmflow_evaluators.detection.boxes import box_iou, mask_iou, points_at_peak
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou as torchvision_iou

SIZE = 160


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes x0, y0, x1, y1 of all sizes that COCO tells apart, at whole pixels."""
    corner = rng.integers(0, SIZE - 20, (count, 2))
    size = np.minimum(rng.integers(4, 130, (count, 2)), SIZE - corner)
    return np.concatenate([corner, corner + size], axis=1).astype(float)


def filled(found: np.ndarray) -> np.ndarray:
    masks = np.zeros((len(found), SIZE, SIZE), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, found.astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def test_overlaps_are_those_of_torchvision_and_pycocotools():
    rng = np.random.default_rng(0)
    a, b = boxes(rng, 12), boxes(rng, 9)
    crowd = rng.random(9) < 0.4
    assert box_iou(a, b) == pytest.approx(torchvision_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy())
    wide = [np.concatenate([v[:, :2], v[:, 2:] - v[:, :2]], axis=1) for v in (a, b)]
    assert box_iou(a, b, crowd) == pytest.approx(coco_mask.iou(wide[0], wide[1], crowd.astype(int).tolist()))
    coded = [coco_mask.encode(np.asfortranarray(filled(v).transpose(1, 2, 0).astype(np.uint8))) for v in (a, b)]
    assert mask_iou(filled(a), filled(b), crowd) == pytest.approx(
        coco_mask.iou(coded[0], coded[1], crowd.astype(int).tolist())
    )
    assert box_iou(np.zeros((0, 4)), b).shape == (0, 9)
    assert box_iou([[1, 1, 1, 1]], [[1, 1, 1, 1]]).tolist() == [[0.0]]
    assert mask_iou(np.zeros((0, 4, 4)), np.zeros((2, 4, 4))).shape == (0, 2)
    with pytest.raises(ValueError, match="ends before"):
        box_iou([[3, 0, 1, 1]], b)
    with pytest.raises(ValueError, match="one size"):
        mask_iou(np.zeros((1, 4, 4)), np.zeros((1, 5, 4)))


def scene(seed: int) -> list[dict[str, Any]]:
    """Images with objects of two classes, some crowds, and detections: shifted objects, duplicates and inventions."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(12):
        truth = boxes(rng, int(rng.integers(0, 6)))
        found = [
            np.clip(box + rng.integers(-8, 9, 4), 0, SIZE) for box in truth for _ in range(int(rng.integers(0, 3)))
        ]
        found = [box for box in found if (box[2:] > box[:2]).all()]
        found = np.array([*found, *boxes(rng, int(rng.integers(0, 4)))]).reshape(-1, 4)
        if number == 3:
            found = np.zeros((0, 4))
        images.append(
            {
                "truth": truth, "found": found, "crowd": rng.random(len(truth)) < 0.2,
                "class": rng.integers(1, 3, len(truth)), "found_class": rng.integers(1, 3, len(found)),
                # Few distinct scores: ties within and between images.
                "score": rng.integers(1, 6, len(found)) / 5,
            }
        )  # fmt: skip
    return images


def by_coco(images: list[dict[str, Any]], kind: str) -> np.ndarray:
    """The twelve numbers of pycocotools."""

    def shape(box: np.ndarray) -> dict[str, Any]:
        x0, y0, x1, y1 = map(float, box)
        code = coco_mask.encode(np.asfortranarray(filled(box[None])[0].astype(np.uint8)))
        return {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": code, "area": (x1 - x0) * (y1 - y0)}

    annotations, found = [], []
    for number, image in enumerate(images):
        for box, crowd, name in zip(image["truth"], image["crowd"], image["class"], strict=True):
            entry = {"image_id": number, "category_id": int(name), "iscrowd": int(crowd), "id": len(annotations) + 1}
            annotations.append({**shape(box), **entry})
        for box, score, name in zip(image["found"], image["score"], image["found_class"], strict=True):
            one = {"image_id": number, "category_id": int(name), "score": float(score)}
            found.append({**{k: v for k, v in shape(box).items() if k == kind}, **one})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": n, "height": SIZE, "width": SIZE} for n in range(len(images))],
            "annotations": annotations, "categories": [{"id": 1}, {"id": 2}], "info": {},
        }  # fmt: skip
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(found), "bbox" if kind == "bbox" else "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats


def by_us(images: list[dict[str, Any]], kind: str) -> np.ndarray:
    def hits(area: str, most: int) -> list[of.Hits]:
        classes = []
        for name in (1, 2):
            parts = []
            for image in images:
                rows, columns = image["found_class"] == name, image["class"] == name
                a, b, crowd = image["found"][rows], image["truth"][columns], image["crowd"][columns]
                overlaps = box_iou(a, b, crowd) if kind == "bbox" else mask_iou(filled(a), filled(b), crowd)
                areas = [np.prod(v[:, 2:] - v[:, :2], axis=1) for v in (a, b)]
                match = of.ImageMatch(overlaps, image["score"][rows], areas[0], areas[1], crowd)
                parts.append(of.match_image(match, area=area, most=most))
            classes.append(of.join(parts))
        return classes

    def mean(values: list[np.ndarray], level: slice = slice(None)) -> float:
        # COCO gives -1 where no class has an object.
        kept = [v[level] for v in values if not np.isnan(v).all()]
        return float(np.mean(kept)) if kept else -1.0

    precisions = [of.average_precision(h) for h in hits("all", 100)]
    by_area = [mean([of.average_precision(h) for h in hits(a, 100)]) for a in ("small", "medium", "large")]
    recalls = [mean([of.recall_of(h) for h in hits("all", most)]) for most in (1, 10, 100)]
    recall_by_area = [mean([of.recall_of(h) for h in hits(a, 100)]) for a in ("small", "medium", "large")]
    first = [mean(precisions), mean(precisions, slice(0, 1)), mean(precisions, slice(5, 6))]
    return np.array([*first, *by_area, *recalls, *recall_by_area])


@pytest.mark.parametrize("kind", ["bbox", "segmentation"])
@pytest.mark.parametrize("seed", range(4))
def test_the_twelve_numbers_of_coco(kind: str, seed: int):
    images = scene(seed)
    assert by_us(images, kind) == pytest.approx(by_coco(images, kind), abs=1e-9)


def test_no_objects_no_detections_and_perfect_ones():
    none = of.match_image(of.ImageMatch(np.zeros((2, 0)), np.ones(2), np.ones(2), np.zeros(0)))
    assert np.isnan(of.average_precision(of.join([none]))).all()
    missed = of.match_image(of.ImageMatch(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.ones(2)))
    assert of.average_precision(of.join([missed])).tolist() == [0.0] * 10
    assert of.recall_of(of.join([missed])).tolist() == [0.0] * 10
    right = of.match_image(of.ImageMatch(np.eye(2), np.ones(2), np.ones(2), np.ones(2)))
    assert of.average_precision(of.join([right])) == pytest.approx(np.ones(10))
    assert np.isnan(of.average_precision(of.join([]))).all()


def test_the_pointing_game_with_ties_and_tolerance():
    maps, regions = np.zeros((4, 5, 5)), np.zeros((4, 5, 5), bool)
    maps[0, 2, 2], regions[0, 2, 2] = 1, True
    maps[1, 0, 0], regions[1, 2, 2] = 1, True
    regions[2, :2] = True
    assert points_at_peak(maps, regions)[:3].tolist() == [1.0, 0.0, 10 / 25]
    assert np.isnan(points_at_peak(maps, regions)[3])
    assert points_at_peak(maps, regions, tolerance=3)[1] == 1.0
    assert points_at_peak(maps, regions, tolerance=2.5)[1] == 0.0
    with pytest.raises(ValueError, match="not finite"):
        points_at_peak(np.full((1, 2, 2), np.nan), np.ones((1, 2, 2), bool))
