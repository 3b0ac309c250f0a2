"""Declarative training and evaluation of multimodal representation models.

For Python and notebooks; each function loads what it needs when it is called:

>>> import mmflow
>>> result = mmflow.run("spec.yaml")
>>> result.metrics
>>> model = mmflow.load("latest")
>>> model.encode(image=["cat.jpg"], text=["a cat"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, Literal

    from mmflow.flow.jobs import Watcher
    from mmflow.out.embedding import Data, Embedded
    from mmflow.out.model import LoadedModel
    from mmflow.out.runs import RunResult
    from mmflow.out.tables import Table
    from mmflow.plugin.values import RawValue

__all__ = ["embed", "export", "load", "metrics", "run", "runs", "search"]

_STORE = ".mmflow"


def run(
    spec: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, store: str | None = None,
    engine: Literal["local", "prefect"] = "local", device: str = "auto", workers: int = 0, force: Sequence[str] = (),
    watchers: Sequence[Watcher] = (),
) -> RunResult:  # fmt: skip
    """Run a spec (a path, a URL, or its content as a mapping) and return its metrics as a table.

    `overrides` are texts `train.epochs=2`; stages whose results are stored are not run again. Raises `SpecError`,
    `ComponentError` and `StoreError` before the first stage, and `RunFailed` where a stage fails.
    """
    from mmflow.out.runs import run_here

    return run_here(
        spec, overrides, store=store or _store(), engine=engine, device=device, workers=workers, force=force,
        watchers=watchers,
    )  # fmt: skip


def runs(store: str | None = None) -> Table:
    """The recorded runs of a store, the newest first: id, name, status, times."""
    from mmflow.out.runs import recorded_runs

    return recorded_runs(store or _store())


def metrics(run: str = "latest", store: str | None = None) -> Table:
    """The metrics of a recorded run, one a row: stage, what was compared, value, interval, chance."""
    from mmflow.out.runs import metrics_of

    return metrics_of(run, store or _store())


def load(
    source: str | Path, *, stage: str = "", member: str = "", store: str | None = None, device: str = "auto"
) -> LoadedModel:
    """The encoders of a run (`latest`, its id, or the path or URL of its record) or of a folder that was exported.

    `stage` says whose model of the run, by default the last one that was trained; `member` names one of a matrix;
    `store` is where runs are kept, by default `MMFLOW_STORE` or `.mmflow`. The data of the run are not read. Raises
    `StoreError` and `ComponentError`, with one message.
    """
    from mmflow.out.loading import load_model

    return load_model(source, store=store or _store(), stage=stage, member=member, device=device)


def export(
    model: LoadedModel | str | Path, folder: str | Path, encoders: Sequence[str] = (), *, form: str = "mmflow"
) -> Path:
    """Write encoders (all by default) as a new folder that `load` reads anywhere; returns its path.

    Other forms: `onnx`, and where the architecture is theirs `transformers`, `open_clip`, `sentence_transformers`.
    """
    from pathlib import Path

    from mmflow.out.forms import export_as

    return export_as(_loaded(model), Path(folder), encoders, form=form)


def embed(
    model: LoadedModel | str | Path, data: Data, to: str, *, encoders: Sequence[str] = (), fields: Sequence[str] = (),
    normalize: bool = False, index: bool = False, codes: Literal["int8", "binary"] | None = None,
    batch_size: int = 256, workers: int = 0,
) -> Embedded:  # fmt: skip
    """Write the vectors of data (an entry of the run's, files, or a source) to `to`, `.parquet` or `.npz`.

    `fields` are stored beside; `index` writes a faiss index for each encoder; `codes` stores vectors in few bytes.
    """
    from mmflow.out.embedding import embed_data

    return embed_data(
        _loaded(model), data, to, encoders=encoders, fields=fields, normalize=normalize, index=index, codes=codes,
        batch_size=batch_size, workers=workers,
    )  # fmt: skip


def search(
    model: LoadedModel | str | Path, query: RawValue, vectors: str, *, of: str = "", by: str = "", most: int = 10,
    rerank: str = "", top: int = 50,
) -> Table:  # fmt: skip
    """The rows of a file of vectors that are most like a text, an image or another value.

    `rerank` names a score among the parts of the model, which orders the `top` rows again.
    """
    from mmflow.out.search import search_vectors

    return search_vectors(_loaded(model), query, vectors, of=of, by=by, most=most, rerank=rerank, top=top)


def _loaded(model: LoadedModel | str | Path) -> LoadedModel:
    from pathlib import Path

    return load(model) if isinstance(model, str | Path) else model


def _store() -> str:
    import os

    return os.environ.get("MMFLOW_STORE") or _STORE
