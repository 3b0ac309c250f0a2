"""The commands. Each imports its rooms when it is called, so that `--help` and `check` stay light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mmflow.cli import catalog, compare, new, results
from mmflow.cli.errors import reported
from mmflow.cli.options import DEFAULT_STORE, AsJson, StoreUrl, print_columns, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmflow.spec import Matrix

app = typer.Typer(
    help="Train and evaluate multimodal representation models from one YAML file.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(compare.app)
app.add_typer(results.app)
app.add_typer(catalog.app)
app.add_typer(new.app, name="new")

SpecFile = Annotated[str, typer.Argument(metavar="SPEC", help="The spec: a YAML file on disk or on any fsspec URL.")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="[MEMBER:]PATH=VALUE",
        help="Override one value, such as train.epochs=2, of all members of a matrix or of one. Repeats.",
    ),
]
Members = Annotated[
    list[str], typer.Option("--member", metavar="NAME", help="One member of the spec's matrix only. Repeats.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mmflow {version('mmflow-kit')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    spec: SpecFile,
    overrides: Overrides = [],  # noqa: B006
    member: Members = [],  # noqa: B006
    store: StoreUrl = DEFAULT_STORE,
    local: Annotated[bool, typer.Option("--local", help="Run without Prefect.")] = False,
    force: Annotated[
        list[str], typer.Option(metavar="STAGE", help="Run a stage and its readers again, though stored. Repeats.")
    ] = [],  # noqa: B006
    workers: Annotated[int, typer.Option(min=0, max=64, help="Loader processes where the spec sets none.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Services give recorded answers only.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the results only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train, evaluate and report. Stages whose results are stored are not run again."""
    with reported():
        from mmflow.cli.terminal import print_results, progress_watcher

        # The first line comes before anything that takes a moment.
        watcher = progress_watcher(quiet=quiet or as_json)
        watcher.waiting(f"reading {spec}")

        from mmflow.flow.run import RunOptions, run_members

        options = RunOptions(
            store=store, engine="local" if local else "prefect", force=tuple(force), workers=workers, device=device,
            offline=offline,
        )  # fmt: skip
        members = _load(spec, overrides).only(member)
        result = run_members(members, options, watchers=[watcher])
        if as_json:
            print_json(result.summary())
        else:
            print_results(result)
        raise typer.Exit(result.exit_code)


@app.command(short_help="Check a spec without running anything.")
def check(
    spec: SpecFile,
    overrides: Overrides = [],  # noqa: B006
    shapes: Annotated[
        bool, typer.Option("--shapes", help="Also build the models without memory and run fake data through them.")
    ] = False,
) -> None:
    """Check a spec completely, without running anything. Exit 2 if something is wrong."""
    with reported():
        matrix = _load(spec, overrides)
        if shapes:
            _check_shapes(matrix)
        from mmflow.model.outlook import outlook

        said: dict[str, list[str]] = {}
        for one in matrix:
            for name, source in one.spec.data.items():
                for found in (*source.left_out(), *source.caveats()):
                    said.setdefault(f"{name}: {found}", []).append(one.name)
            for line in outlook(one.spec):
                said.setdefault(line, []).append(one.name)
        _print_of_members(matrix, said)
        count = f"{len(matrix)} members ({', '.join(matrix.members)}), " if "" not in matrix.members else ""
        stages = dict.fromkeys(stage for one in matrix for stage in one.spec.stages)
        typer.echo(f"{spec}: ok, {count}stages: {', '.join(stages)}")


@app.command(short_help="Show the stages of a spec and their states.")
def plan(
    spec: SpecFile,
    overrides: Overrides = [],  # noqa: B006
    member: Members = [],  # noqa: B006
    store: StoreUrl = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Show the stages of a spec, their keys, and which of them are stored already; what members share stands once."""
    with reported():
        from mmflow.flow.plan import plan_members
        from mmflow.flow.run import open_store

        members = _load(spec, overrides).only(member)
        planned, _ = plan_members(members, open_store(store))
        if as_json:
            print_json([stage.summary() for stage in planned])
            return
        rows = [(s.name, s.declaration.use, s.state, s.key[:12] or "-", ", ".join(s.inputs) or "-") for s in planned]
        titles: tuple[str, ...] = ("stage", "use", "state", "key", "reads")
        if len(members) > 1:
            titles = (*titles[:3], "members", *titles[3:])
            counts = [f"{len(s.members)} of {len(members)}" for s in planned]
            rows = [(*row[:3], count, *row[3:]) for row, count in zip(rows, counts, strict=True)]
        print_columns(titles, rows)
        for name, other in planned.equal().items():
            seeds = hasattr(planned[name].declaration, "seed") and planned[name].declaration.trains
            hint = "; a `seed` of its own makes it another" if seeds else ""
            typer.echo(f"note: {name} is the same stage as {other} and is not run again{hint}")


@app.command(short_help="Write the report of a recorded run again.")
def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or `latest`.")] = "latest",
    store: StoreUrl = DEFAULT_STORE,
) -> None:
    """Write the report of a recorded run again and print where it is."""
    with reported():
        from mmflow.flow.run import open_store, write_report

        typer.echo(write_report(open_store(store), run_id))


def _load(spec: str, overrides: list[str]) -> Matrix:
    from mmflow.spec import load_members

    loaded = load_members(spec, overrides)
    for note in loaded.notes:
        typer.echo(f"note: {note}", err=True)
    return loaded


def _check_shapes(matrix: Matrix) -> None:
    from mmflow.evaluate.trial import StageCheck
    from mmflow.spec import SpecError

    problems, said, check = {}, {}, StageCheck()
    for member in matrix:
        report = check.of(member.spec)
        problems |= dict.fromkeys(report.problems)
        untraced = [f"not traced: {line}" for line in report.untraced]
        for line in (*report.shapes, *report.trained, *report.memories, *untraced):
            said.setdefault(line, []).append(member.name)
    if problems:
        raise SpecError(problems)
    _print_of_members(matrix, said)


def _print_of_members(matrix: Matrix, said: Mapping[str, list[str]]) -> None:
    """Lines about the members of a matrix, with their names where a line is not about all."""
    for line, names in said.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        whose = f"{', '.join(names[:3])}{more}: " if len(names) < len(matrix) else ""
        typer.echo(f"  {whose}{line}")
