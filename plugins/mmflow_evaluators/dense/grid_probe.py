"""How much of a map of classes is in the vectors of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmflow.plugin import (
    ComponentError,
    Data,
    Encoding,
    EvaluationResult,
    PositiveFloat,
    PositiveInt,
    RawField,
    Ref,
    default,
)
from mmflow_evaluators.declared import OfEach, quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CELLS = 20_000
NEIGHBORS_AT_A_TIME = 512


class GridProbe(OfEach, name="grid_probe"):
    """Mean IoU, pixel and class accuracy of segmentation from frozen vectors of a grid, for each output in `of`.

    `of` names grid outputs (`image.grid`), `mask` the field with an integer class a pixel; 255 and negative ones are
    left out. A cell learns the most frequent class of its pixels; each pixel of `test` is given the class of its cell.
    `by: linear` is a logistic regression on standardized vectors, `by: neighbor` a vote of the `k` cells with the
    highest cosine, weighted by exp(cosine / temperature) (Caron et al., 2021; the smallest class wins a tie). It
    learns from at most 20000 cells, drawn by address. Chance is that of the most frequent class everywhere; intervals
    are those of a bootstrap over images.
    """

    needs: ClassVar[tuple[str, ...]] = ("grid",)

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"mask": ("mask",)}
    example: ClassVar[str] = "{use: grid_probe, data: train, test: test, of: image.grid, mask: mask}"
    requires: ClassVar[tuple[str, ...]] = ("sklearn",)

    mask: Ref[RawField] = default(..., description="the class of each pixel")
    test: Ref[Data] = default(..., description="data to be tested on")
    by: Literal["linear", "neighbor"] = "linear"
    k: PositiveInt = default(20, description="of `by: neighbor`")
    temperature: PositiveFloat = default(0.07, description="of `by: neighbor`")
    c: PositiveFloat = default(1.0, description="inverse strength of the penalty, of `by: linear`")

    def evaluate(self, *of: Encoding, mask: Any, test: Any) -> EvaluationResult:
        import numpy as np

        from mmflow.plugin import numpy_generator
        from mmflow_evaluators.dense import segmentation
        from mmflow_evaluators.estimates import bootstrapped, group_of, result

        known, asked = _masks(mask), _masks(test.fields["mask"])
        classes = int(max(np.where(m == 255, -1, m).max(initial=-1) for m in (known, asked))) + 1
        if classes < 1:
            raise ComponentError("grid_probe: the masks name no class")
        metrics = []
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            x, here = _grid(encoding, f"grid_probe of {name}")
            y, here_y = _grid(test.of[place], f"grid_probe of {name} (test)")
            cells = segmentation.cell_classes(known, x.shape[1], x.shape[2])
            cells[~here] = -1
            learned = np.flatnonzero(cells.reshape(-1) >= 0)
            if len(np.unique(cells.reshape(-1)[learned])) < 2:
                raise ComponentError(f"grid_probe of {name}: the cells to learn from have fewer than two classes")
            if len(learned) > CELLS:
                learned = np.sort(numpy_generator("mmflow_evaluators.grid_probe").choice(learned, CELLS, replace=False))
            rows, truth = x.reshape(-1, x.shape[-1])[learned], cells.reshape(-1)[learned]
            found = self._classes(rows, truth, y[here_y].reshape(-1, y.shape[-1]), classes)
            maps = segmentation.enlarged(found.reshape(-1, *y.shape[1:3]), *asked.shape[1:])
            tested = asked[here_y]
            areas = np.stack([segmentation.class_areas(t, f, classes) for t, f in zip(tested, maps, strict=True)])
            most = np.full(tested.shape[1:], np.bincount(truth).argmax())
            same = np.stack([segmentation.class_areas(t, most, classes) for t in tested]).sum(0)
            group = group_of(name, len(of) == 1)
            for label, title, measure in (
                ("miou", "mIoU", segmentation.mean_iou),
                ("pixel_accuracy", "pixel accuracy", segmentation.pixel_accuracy),
                ("class_accuracy", "mean class accuracy", segmentation.class_accuracy),
            ):
                metrics.append(
                    bootstrapped(
                        label, lambda i, of=measure, a=areas: of(a[i].sum(0)), len(areas), title=title, group=group,
                        chance=measure(same),
                    )
                )  # fmt: skip
        return result(metrics)

    def _classes(
        self, rows: NDArray[np.float64], truth: NDArray[np.int64], asked: NDArray[np.float64], classes: int
    ) -> NDArray[np.int64]:
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from mmflow_evaluators.vectors import unit

        if self.by == "linear":
            model = make_pipeline(StandardScaler(), LogisticRegression(C=self.c, max_iter=500))
            with quiet():
                return np.asarray(model.fit(rows, truth).predict(asked), dtype=np.int64)
        if self.k > len(rows):
            raise ComponentError(f"grid_probe: k is {self.k}, and there are {len(rows)} cells to learn from")
        known, hot = unit(rows), np.eye(classes)[truth]
        found = []
        for start in range(0, len(asked), NEIGHBORS_AT_A_TIME):
            scores = unit(asked[start : start + NEIGHBORS_AT_A_TIME]) @ known.T
            nearest = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
            weights = np.exp((np.take_along_axis(scores, nearest, axis=1) - 1) / self.temperature)
            found.append((weights[..., None] * hot[nearest]).sum(1).argmax(1))
        return np.concatenate(found)


def _masks(column: Any) -> NDArray[np.int64]:
    """Masks int [N, H, W] of a column: a tensor, or a list of arrays of one size; absent ones are all 255."""
    import numpy as np

    if not isinstance(column, list):
        masks = column.cpu().numpy()
        return (masks[..., 0] if masks.ndim == 4 and masks.shape[-1] == 1 else masks).astype(np.int64)
    sizes = {np.asarray(m).shape[:2] for m in column if m is not None}
    if len(sizes) != 1:
        raise ComponentError(f"grid_probe: masks of {len(sizes)} sizes", hint="give images and masks one size")
    (size,) = sizes
    return np.stack([np.full(size, 255) if m is None else np.asarray(m).reshape(size) for m in column]).astype(np.int64)


def _grid(encoding: Encoding, where: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Vectors [N, h, w, D] and which rows are present."""
    import numpy as np

    grid = encoding["grid"]
    if grid.ndim != 4:
        raise ComponentError(f"{where}: needs one grid a row, its axes are {', '.join(encoding.axes)}")
    present = np.ones(len(grid), bool) if encoding.present is None else encoding.present.cpu().numpy()
    return grid.double().cpu().numpy(), present
