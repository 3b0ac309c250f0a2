"""The commands by which results leave the store: `export`, `embed`, `search`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from mmflow.cli.errors import reported
from mmflow.cli.options import DEFAULT_STORE, AsJson, StoreUrl, print_json

app = typer.Typer()

EVERY = 10.0
"""Seconds between two lines of progress."""
VECTORS = "vectors.parquet"

ModelOf = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run, `latest`, or the path or URL of an exported model.")
]
StageOf = Annotated[str, typer.Option("--stage", metavar="NAME", help="Whose model of the run; the last by default.")]
MemberOf = Annotated[str, typer.Option("--member", metavar="NAME", help="One member of the run's matrix.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


@app.command(short_help="Write a run's encoders as a folder of their own.")
def export(
    model: ModelOf,
    folder: Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder.")],
    of: Annotated[
        str, typer.Option("--of", metavar="NAMES", help="Encoders, with commas between; all by default.")
    ] = "",
    form: Annotated[
        str,
        typer.Option("--form", metavar="FORM", help="mmflow, onnx, transformers, open_clip, sentence_transformers."),
    ] = "mmflow",
    stage: StageOf = "",
    member: MemberOf = "",
    store: StoreUrl = DEFAULT_STORE,
) -> None:
    """Write encoders with their preprocessing and a model card, to be loaded anywhere with `mmflow.load(FOLDER)`, or in
    another form without mmflow."""
    with reported():
        from pathlib import Path

        from mmflow.out.forms import export_as
        from mmflow.out.loading import load_model

        loaded = load_model(model, store=store, stage=stage, member=member, device="cpu")
        typer.echo(export_as(loaded, Path(folder).expanduser(), _names(of), form=form))


@app.command(short_help="Write the vectors of data to a file.")
def embed(
    model: ModelOf,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="An entry of the run's data, a file or folder, or {use: table, ...}.")
    ],
    to: Annotated[
        str, typer.Option("--output", "-o", metavar="URL", help="A .parquet or .npz file, on any fsspec URL.")
    ] = VECTORS,
    of: Annotated[
        str, typer.Option("--of", metavar="NAMES", help="Encoders; by default all whose fields the data have.")
    ] = "",
    fields: Annotated[str, typer.Option("--fields", metavar="NAMES", help="Fields of the data to store beside.")] = "",
    normalize: Annotated[bool, typer.Option("--normalize", help="Vectors of length one.")] = False,
    codes: Annotated[
        str, typer.Option("--codes", metavar="FORM", help="Store vectors in few bytes: int8, or binary.")
    ] = "",
    index: Annotated[bool, typer.Option("--index", help="Write a faiss index beside, for each encoder.")] = False,
    stage: StageOf = "",
    member: MemberOf = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Rows that are encoded at a time.")] = 256,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Loader processes.")] = 0,
    device: Device = "auto",
    store: StoreUrl = DEFAULT_STORE,
) -> None:
    """Write the vectors of every row of data, with its id, batch by batch."""
    with reported():
        from mmflow.out.embedding import embed_data
        from mmflow.out.loading import load_model
        from mmflow.plugin.component import ComponentError

        if codes not in ("", "int8", "binary"):
            raise ComponentError(f"there are no codes {codes!r}", expected="int8 or binary")
        loaded = load_model(model, store=store, stage=stage, member=member, device=device)
        written = embed_data(
            loaded, _declared(data), to, encoders=_names(of), fields=_names(fields), normalize=normalize, index=index,
            codes=codes or None, batch_size=batch_size, workers=workers, told=_Progress(),
        )  # fmt: skip
        sizes = ", ".join(f"{name} {list(size)}" for name, size in written.sizes.items())
        typer.echo(f"{written.url}: {written.rows:,} rows, {sizes}")
        for place in written.indices:
            typer.echo(place)


@app.command(short_help="Search vectors for what is most like a text or a file.")
def search(
    model: ModelOf,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A text, or the path or URL of an image or a sound.")],
    vectors: Annotated[str, typer.Option("--in", metavar="URL", help="The file that `embed` has written.")] = VECTORS,
    of: Annotated[str, typer.Option("--of", metavar="NAME", help="Whose vectors are searched.")] = "",
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="The encoder of the query.")] = "",
    most: Annotated[int, typer.Option("--most", "-k", min=1, max=10_000, help="Rows to show.")] = 10,
    rerank: Annotated[
        str, typer.Option("--rerank", metavar="NAME", help="A score in the parts of the spec that orders rows again.")
    ] = "",
    top: Annotated[int, typer.Option("--top", min=1, max=10_000, help="Rows that --rerank orders.")] = 50,
    stage: StageOf = "",
    member: MemberOf = "",
    device: Device = "auto",
    store: StoreUrl = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Show the rows of a file of vectors that are most like the query."""
    with reported():
        from mmflow.out.loading import load_model
        from mmflow.out.search import search_vectors

        loaded = load_model(model, store=store, stage=stage, member=member, device=device)
        found = search_vectors(loaded, query, vectors, of=of, by=by, most=most, rerank=rerank, top=top)
        if as_json:
            print_json([dict(row) for row in found])
        else:
            typer.echo(repr(found))


class _Progress:
    """A line on stderr every few seconds."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            print(f"{done:,}{f' of {total:,}' if total else ''} rows", file=sys.stderr)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _declared(data: str) -> str | dict[str, object]:
    """A declaration that was written as YAML; any other text as it is."""
    if not data.lstrip().startswith("{"):
        return data
    from mmflow.plugin.component import ComponentError
    from mmflow.spec import SpecError
    from mmflow.spec.text.expand import read_text

    try:
        found = read_text(data, "DATA").data
    except SpecError as error:
        raise ComponentError(str(error).splitlines()[0]) from None
    assert isinstance(found, dict)
    return found
