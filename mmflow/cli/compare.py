"""`mmflow compare`: recorded runs beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mmflow.cli.errors import reported
from mmflow.cli.options import DEFAULT_STORE, StoreUrl

if TYPE_CHECKING:
    from mmflow.flow.report.runs import RunsReport

app = typer.Typer()

TEXT = "text"
ENDINGS = {"csv": "csv", "md": "markdown", "tex": "latex", "html": "html", "json": "json", "txt": TEXT}
"""Formats by the ending of a file."""


@app.command(short_help="Compare runs: one table, which differences are real.")
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Ids of runs, `latest`, or paths or URLs of their records.")
    ],
    baseline: Annotated[
        str,
        typer.Option("--baseline", metavar="NAME", help="The method, run or member compared with; else the first."),
    ] = "",
    metric: Annotated[
        list[str], typer.Option("--metric", metavar="PATTERN", help="Only metrics such as retrieval.* or *r1. Repeats.")
    ] = [],  # noqa: B006
    form: Annotated[
        str, typer.Option("--format", metavar="FORM", help="text, csv, markdown, latex, html, json.")
    ] = TEXT,
    to: Annotated[
        list[str],
        typer.Option("--output", "-o", metavar="FILE", help="Write .csv, .md, .tex, .html or .json as well. Repeats."),
    ] = [],  # noqa: B006
    store: StoreUrl = DEFAULT_STORE,
) -> None:
    """Compare runs, and the members of matrices, with a baseline: paired over items and seeds, corrected for how many
    are compared. What differs in its seed alone is one method."""
    with reported():
        from pathlib import Path

        forms = {file: _form_of(file) for file in to}
        _known(form)

        from mmflow.flow.report.runs import compare_runs
        from mmflow.out.finding import find_record

        found = compare_runs([find_record(run, store) for run in runs], baseline=baseline, metrics=metric)
        typer.echo(_written(found, form).rstrip("\n"))
        for file, wanted in forms.items():
            place = Path(file).expanduser()
            place.write_text(_written(found, wanted), encoding="utf-8")
            typer.echo(f"written: {place}", err=True)


def _written(found: RunsReport, form: str) -> str:
    from mmflow.flow.report import tables
    from mmflow.flow.report.comparison import table

    if form == "csv":
        return tables.as_csv(found.metrics)
    if form == "markdown":
        return tables.markdown(found.title, found.metrics, notes=found.notes)
    if form == "latex":
        return tables.latex(found.metrics, found.notes)
    if form == "html":
        from mmflow.flow.report.page import render_runs

        return render_runs(found)
    if form == "json":
        import json

        runs = [{"method": one.method, "seed": one.seed, "run": one.origin} for one in found.entries]
        said = {"runs": runs, "table": table(found.metrics), "notes": [*found.notes, *tables.footnotes(found.metrics)]}
        return json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    return "\n".join([*tables.lines(found.metrics), *(f"note: {note}" for note in found.notes)]) + "\n"


def _known(form: str) -> None:
    if form not in ENDINGS.values():
        from mmflow.plugin.component import ComponentError

        raise ComponentError(f"there is no format {form!r}", expected=f"one of {', '.join(ENDINGS.values())}")


def _form_of(file: str) -> str:
    ending = file.rpartition(".")[2].lower()
    if ending not in ENDINGS:
        from mmflow.plugin.component import ComponentError

        raise ComponentError(
            f"the ending of {file} says no format", expected=f"one of {', '.join(f'.{one}' for one in ENDINGS)}"
        )
    return ENDINGS[ending]
