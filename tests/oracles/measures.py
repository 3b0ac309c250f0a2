"""Rows of evaluators: the functions that their numbers are made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from mmflow_evaluators.choice.scores import mean_rank, top_hits
from mmflow_evaluators.clustering.discovery import discovery_hits
from mmflow_evaluators.dense.propagation import propagate
from mmflow_evaluators.geometry import modality_gap
from mmflow_evaluators.intervals import score_interval
from mmflow_evaluators.relevance import measures
from mmflow_evaluators.similarity.kernels import linear_cka, neighbor_cka, rbf_cka, unbiased_cka
from mmflow_evaluators.similarity.neighbors import cycle_knn, mutual_knn
from mmflow_evaluators.similarity.spectrum import conformity
from mmflow_evaluators.temporal.boundaries import pk, window_difference
from numpy.typing import ArrayLike
from torch.nn.functional import normalize

from mmflow.testing import Agreement, Arrays
from tests.oracles.rows import Row


def agree(name: str, found: ArrayLike, file: Arrays, *, tolerance: float = 1e-6, scale: float = 1.0) -> Agreement:
    """A number of ours in the unit of the file's array."""
    wanted = file.result(name)
    return Agreement(
        name, torch.as_tensor(np.asarray(found, np.float64)).reshape(wanted.shape) * scale, wanted, tolerance
    )


def unit(file: Arrays, name: str, dim: int = -1) -> np.ndarray:
    return normalize(file.input(name), dim=dim).numpy()


def share_intervals(file: Arrays) -> Iterator[Agreement]:
    failures, items = file.input("k").numpy(), file.input("n").numpy()
    some = torch.as_tensor(items > 0)
    found = [score_interval(k / n, None, int(n)) for k, n in zip(failures, items, strict=True) if n]
    for name, ends in (("low", [each.low for each in found]), ("high", [each.high for each in found])):
        # The release takes 1.96 for the point of the normal distribution.
        yield Agreement(name, torch.tensor(ends, dtype=torch.float64), file.result(name)[some], 2e-5)


def boundaries(file: Arrays) -> Iterator[Agreement]:
    reference, found, k = file.input("reference"), file.input("hypothesis"), int(file.option("k"))
    yield agree("pk", pk(reference.numpy(), found.numpy(), k), file)
    yield agree("windowdiff", window_difference(reference.numpy(), found.numpy(), k), file)


def ranks_of_candidates(file: Arrays) -> Iterator[Agreement]:
    similarity = file.input("sim").numpy()
    count = similarity.shape[1]
    own = np.stack([similarity[6 * q : 6 * q + 6, q] for q in range(count)])
    ranks = mean_rank(own, np.zeros(count, int))
    yield agree("mean_rank_average_ties", ranks.mean(), file)
    if len(np.unique(own)) == own.size:
        first = np.arange(6)[None] < np.ones((count, 1))
        for k in (1, 3):
            yield agree(f"r{k}", top_hits(own, first, k).mean(), file, scale=100)
        yield agree("mean_rank", ranks.mean(), file)


def representations(file: Arrays) -> Iterator[Agreement]:
    x, y, k = file.input("X").numpy(), file.input("Y").numpy(), int(file.option("k"))
    yield agree("mutual_knn", mutual_knn(x, y, k).mean(), file)
    yield agree("cycle_knn", cycle_knn(x, y, k).mean(), file)
    yield agree("cka", linear_cka(x, y), file)
    # The toolbox adds 1e-6 to the products that it divides by.
    yield agree("cka_rbf", rbf_cka(x, y, 0.8), file, tolerance=1e-5)
    yield agree("unbiased_cka", unbiased_cka(x, y), file, tolerance=1e-4)
    yield agree("cknna", neighbor_cka(x, y, k), file, tolerance=1e-4)


def labels_carried(file: Arrays) -> Iterator[Agreement]:
    reach, top = int(file.option("neighbor_range")), int(file.option("topk"))
    # The published function is given vectors of length one.
    queries, keys = unit(file, "query", 1), unit(file, "key", 1)
    found = [
        propagate(
            query, key.transpose(1, 0, 2, 3), labels.transpose(1, 0, 2, 3), top=top or None,
            radius=reach // 2 if reach else None, free=int(file.option("non_mask_len")),
            temperature=file.number("temperature"),
        )
        for query, key, labels in zip(queries, keys, file.input("value").numpy(), strict=True)
    ]  # fmt: skip
    yield agree("out", np.stack(found), file)


def mean_cosines(file: Arrays) -> Iterator[Agreement]:
    yield agree("exact", conformity(unit(file, "x")), file)


def gap(file: Arrays) -> Iterator[Agreement]:
    x, y = (normalize(file.input(name), dim=-1) for name in "xy")
    yield agree("centroid_distance", modality_gap(x, y)[0], file)


def discovered(file: Arrays) -> Iterator[Agreement]:
    truth, found, known = (file.input(name).numpy() for name in ("y_true", "y_pred", "mask"))
    accuracies = discovery_hits(truth, found, np.unique(truth[known])).accuracies
    for name, accuracy in zip(("all", "old", "new"), accuracies, strict=True):
        yield agree(name, accuracy, file)


def average_precision(file: Arrays) -> Iterator[Agreement]:
    order = measures.order_of(file.input("score").numpy(), file.input("label").numpy())
    yield agree("map", measures.average_precision(order).mean(), file)


def precision_of_codes(file: Arrays) -> Iterator[Agreement]:
    codes, ranking = file.input("codes").numpy(), file.input("ranking").numpy()
    scores = -np.argsort(ranking, axis=1).astype(float)
    wanted = file.result("per_query_rprecision")
    for distance, row in enumerate(wanted):
        found = measures.r_precision(measures.order_of(scores, measures.within_hamming(codes, codes, distance)))
        yield Agreement(f"R-precision within {distance}", torch.as_tensor(found), row)


RUNS: dict[tuple[str, str], tuple[Callable[[Arrays], Iterator[Agreement]], str]] = {
    ("005-protobias", "wilson_interval"): (share_intervals, "the intervals of all shares"),
    ("029-gpc", "gcd_accuracy"): (discovered, "stage/category_discovery"),
    ("030-double-ellipsoid", "conformity"): (mean_cosines, "stage/spectrum"),
    ("041-vfs", "label_propagation"): (labels_carried, "labels carried along a video"),
    ("041-vfs", "label_propagation_batch"): (labels_carried, "labels carried along a video"),
    ("044-contrastive-gap", "gap_metrics"): (gap, "stage/geometry"),
    ("053-llm-teacher-rcad", "rcad_metrics"): (ranks_of_candidates, "stage/multiple_choice"),
    ("061-dual-contrastive-vts", "pk_windowdiff"): (boundaries, "stage/boundary_detection"),
    ("068-pcme", "pmrp"): (precision_of_codes, "stage/relevance"),
    ("076-videocon", "retrieval_map"): (average_precision, "stage/relevance"),
    ("094-dynamic-reflections", "alignment_metrics"): (representations, "stage/representation_similarity"),
}
ROWS = tuple(Row(folder, stem, run, (what,)) for (folder, stem), (run, what) in RUNS.items())
