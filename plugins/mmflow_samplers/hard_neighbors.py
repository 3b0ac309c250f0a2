"""The sampler `hard_neighbors`: batches of samples whose vectors lie close together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from mmflow.plugin import ComponentError, Draw, Field, Ref, Sampled, Sampler, numpy_generator
from mmflow_samplers.passes import cut


class HardNeighbors(Sampler, name="hard_neighbors"):
    """Batches of samples that lie close together, so that a contrastive loss meets hard negatives.

    `of` names a vector of every sample: a stage's column, such as `feats.image` of an `embed` stage, or a field. The
    samples are shuffled and cut into pools; in a pool, each sample that is left in turn takes its nearest neighbors
    that are left, until `group` are together; a batch holds whole groups. Every sample comes once an epoch, but for
    those of the last, smaller batch. Samples without a vector are left out. Time grows with samples times `pool`,
    memory with the square of `pool`.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector",)}
    example: ClassVar[str] = "sampler: {use: hard_neighbors, of: feats.image, group: 16}"

    of: Ref[Sampled] = Field(description="a stage's column or a field with the vectors")
    group: int | None = Field(None, ge=2, description="samples that are neighbors; the whole batch where unset")
    pool: int = Field(2048, ge=2, le=65536, description="samples among which neighbors are looked for")
    distance: Literal["cosine", "euclidean"] = "cosine"

    def batches(self, draw: Draw) -> Iterator[Sequence[int]]:
        import numpy as np

        vectors = draw.columns["of"]
        places = np.array([place for place, vector in enumerate(vectors) if vector is not None], dtype=np.int64)
        if not len(places):
            raise ComponentError(f"no sample has a vector (`of: {self.of}`)")
        generator = numpy_generator(draw.seed, "order", draw.epoch)
        shuffled = generator.permutation(places).tolist()
        groups: list[list[int]] = []
        for first in range(0, len(shuffled), self.pool):
            pool = shuffled[first : first + self.pool]
            near = _near(np.stack([np.asarray(vectors[place], dtype=np.float32) for place in pool]), self.distance)
            taken = _neighborhoods(near, self.group or draw.batch_size)
            groups += [[pool[row] for row in rows] for rows in taken]
        order = [place for number in generator.permutation(len(groups)).tolist() for place in groups[number]]
        return cut(order, draw.batch_size, drop_last=True)

    def count(self, draw: Draw) -> int:
        there = sum(vector is not None for vector in draw.columns["of"])
        return max(1, there // draw.batch_size) if there else 0


def _near(vectors: Any, distance: str) -> Any:
    """How near each pair is [N, N], larger is nearer."""
    import numpy as np

    if vectors.ndim != 2:
        shape = list(vectors.shape[1:])
        raise ComponentError("the sampler hard_neighbors needs one vector a sample", found=f"values of shape {shape}")
    if distance == "cosine":
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors @ vectors.T
    squares = (vectors * vectors).sum(axis=1)
    return 2 * (vectors @ vectors.T) - squares[:, None] - squares[None, :]


def _neighborhoods(near: Any, size: int) -> Iterator[list[int]]:
    """Groups of `size` rows, every row in one: each row that is left, in order, with the nearest that are left."""
    import numpy as np

    left = np.ones(len(near), dtype=bool)
    for row in range(len(near)):
        if not left[row]:
            continue
        left[row] = False
        others = np.flatnonzero(left)
        # Equally near ones come in the order of the pool.
        chosen = others[np.argsort(-near[row, others], kind="stable")[: size - 1]]
        left[chosen] = False
        yield [row, *chosen.tolist()]
