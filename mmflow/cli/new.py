"""`mmflow new`: a plugin, a component, a spec, to begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from mmflow.cli.errors import reported
from mmflow.scaffold.components import kinds

app = typer.Typer(help="Write a plugin, a component or a spec that works as it is, to change.", no_args_is_help=True)

At = Annotated[str, typer.Option("--at", metavar="FOLDER", help="Where it is written.")]


@app.command(short_help="A plugin: a package with components, a spec and tests.")
def plugin(
    name: Annotated[str, typer.Argument(help="The distribution, such as my-losses.")],
    at: At = "",
) -> None:
    """Write a package with a loss, an encoder and an evaluator, a spec that trains with them, and their tests."""
    with reported():
        from pathlib import Path

        from mmflow.scaffold.plugins import new_plugin

        folder = Path(at or name).expanduser()
        for path in new_plugin(name, folder):
            typer.echo(path)
        typer.echo(f"next: pip install -e {folder}; mmflow run {folder / 'spec.yaml'} --local; pytest {folder}")


@app.command(short_help="A spec for data at hand.")
def spec(
    data: Annotated[
        str, typer.Argument(help="A CSV, JSONL, Parquet or .npz file, a folder of classes, shards, a saved data set.")
    ],
    to: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where it is written; - prints it.")
    ] = "spec.yaml",
    name: Annotated[str, typer.Option("--name", help="Of the spec; that of the data by default.")] = "",
) -> None:
    """Look at data and write a commented spec that trains on them, with parts to train on and to measure on."""
    with reported():
        from pathlib import Path

        from mmflow.plugin.component import ComponentError
        from mmflow.scaffold.specs import spec_for

        path = Path(to).expanduser()
        if to != "-" and path.exists():
            raise ComponentError(f"{path} is there already", hint="name another file with -o")
        text = spec_for(data, name)
        if to == "-":
            typer.echo(text, nl=False)
            return
        path.write_text(text, encoding="utf-8")
        typer.echo(f"{path}\nnext: mmflow check {path} --shapes; mmflow run {path}")


def _component(kind: str) -> Callable[..., None]:
    def command(
        name: Annotated[str, typer.Argument(help="Its name in specs.")],
        at: Annotated[str, typer.Option("--at", metavar="FOLDER", help="The plugin's folder.")] = ".",
    ) -> None:
        with reported():
            from pathlib import Path

            from mmflow.scaffold.plugins import new_component

            path, line = new_component(kind, name, Path(at).expanduser())
            typer.echo(path)
            if line:
                typer.echo(f"note: add this to the mapping that mmflow_components returns: {line}", err=True)

    return command


for _kind in kinds():
    _article = "An" if _kind[0] in "aeio" else "A"
    app.command(_kind, short_help=f"{_article} {_kind} in a plugin.")(_component(_kind))
