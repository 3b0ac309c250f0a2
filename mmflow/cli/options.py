"""Options and output that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmflow.identity.canonical import Json

StoreUrl = Annotated[str, typer.Option("--store", metavar="URL", envvar="MMFLOW_STORE", help="Where results are kept.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

DEFAULT_STORE = ".mmflow"


def print_columns(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from mmflow.cli.tables import columns

    typer.echo("\n".join(columns(titles, rows)))


def print_json(value: Json) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
