"""The commands that tell of what is installed: `list`, `show`, `plugins`, `schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from mmflow.cli.errors import reported
from mmflow.cli.options import AsJson, print_columns, print_json

app = typer.Typer()


@app.command("list", short_help="List the components of all plugins.")
def list_components(
    kind: Annotated[str | None, typer.Argument(help="encoder, loss, source, ...: those of one kind.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the components of all installed plugins with one line about each, and the plugins that are broken."""
    with reported():
        from mmflow.cli.components import describe, registrations
        from mmflow.plugin.component import first_sentence
        from mmflow.plugin.registry import registry

        found = registrations(kind)
        broken = registry().broken
        detail = {r: describe(r) for r in found}
        if as_json:
            rows = [
                {"kind": r.kind, "name": r.name, "path": r.path, "distribution": r.distribution, "version": r.version}
                | {"doc": first_sentence(detail[r].doc), "error": detail[r].error}
                for r in found
            ]
            failed = [{"distribution": b.distribution, "entry_point": b.entry_point, "error": b.error} for b in broken]
            print_json({"components": rows, "broken": failed})
            return
        about = {r: f"BROKEN: {d.error}" if d.error else first_sentence(d.doc) for r, d in detail.items()}
        if kind:
            print_columns(("name", "distribution", "about"), [(r.name, r.distribution, about[r]) for r in found])
        else:
            columns = ("kind", "name", "distribution", "about")
            print_columns(columns, [(r.kind, r.name, r.distribution, about[r]) for r in found])
        if broken:
            typer.echo("\nbroken plugins")
            for plugin in broken:
                typer.echo(f"  {plugin.distribution or '-'} ({plugin.entry_point}): {plugin.error}")


@app.command(short_help="List the installed plugins: from where, and which failed.")
def plugins(as_json: AsJson = False) -> None:
    """List the installed plugins with the file of their hooks, and those that failed with the reason. Exit 1 if one
    failed."""
    with reported():
        from mmflow.plugin.registry import registry

        found = registry()
        rows = [
            {"plugin": p.entry_point, "distribution": p.distribution, "version": p.version, "place": p.place,
             "components": p.components}
            for p in found.installed
        ]  # fmt: skip
        failed = [{"plugin": b.entry_point, "distribution": b.distribution, "error": b.error} for b in found.broken]
        if as_json:
            print_json({"plugins": rows, "broken": failed})
        else:
            columns = ("plugin", "distribution", "version", "components", "place")
            print_columns(columns, [tuple(str(row[name]) for name in columns) for row in rows])
            if failed:
                typer.echo("\nbroken plugins")
                for one in failed:
                    typer.echo(f"  {one['plugin']} of {one['distribution'] or 'no distribution'}: {one['error']}")
        raise typer.Exit(1 if failed else 0)


@app.command(short_help="Show a component, or what a kind asks of its components.")
def show(
    name: Annotated[
        str, typer.Argument(help="[kind/]name[@distribution] of a component, a kind (loss), or a broken plugin.")
    ],
    source: Annotated[bool, typer.Option("--source", help="Print the code of the component instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a component's fields with types, defaults and bounds, its text, its source and an example. Of a kind show
    what to write, what it receives and returns, and the smallest component."""
    with reported():
        from dataclasses import asdict

        from mmflow.cli.components import describe, matching, render, source_of
        from mmflow.cli.contracts import contract, is_kind

        if is_kind(name) and not source:
            made = contract(name)
            print_json(asdict(made)) if as_json else typer.echo(made.text())
            return
        hits, broken = matching(name)
        if source:
            typer.echo("\n\n".join(source_of(hit) for hit in hits))
            return
        if as_json:
            print_json([asdict(describe(hit)) for hit in hits] + [asdict(plugin) for plugin in broken])
            return
        blocks = ["\n".join(render(describe(hit))) for hit in hits]
        blocks += [f"plugin {b.entry_point} of {b.distribution} is broken\n  {b.error}" for b in broken]
        typer.echo("\n\n".join(blocks))


@app.command(short_help="Print the JSON Schema of the language, or install it for VS Code.")
def schema(
    install: Annotated[
        bool, typer.Option("--install", help="Write it into .vscode/, and say so in .vscode/settings.json.")
    ] = False,
    match: Annotated[
        list[str], typer.Option(metavar="GLOB", help="With --install: files that are specs. Repeats.")
    ] = [],  # noqa: B006
    at: Annotated[str, typer.Option("--at", metavar="FOLDER", help="With --install: the folder of the project.")] = ".",
) -> None:
    """Print the JSON Schema of the language with all installed components, for editors; or install it for VS Code's
    extension YAML. After another plugin is installed, do it again."""
    with reported():
        from mmflow.spec.components.schema import json_schema

        if not install:
            print_json(json_schema())
            return
        from pathlib import Path

        from mmflow.cli.editors import install_schema

        for path in install_schema(json_schema(), Path(at).expanduser(), match):
            typer.echo(path)
