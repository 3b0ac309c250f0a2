"""Hooks of mkdocs: a page for each component, made from its declaration while the site is built, and links to the code.

Nothing of these pages is written to docs/ or kept, so that none is ever out of date.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mmflow.cli.components import Description, FieldDescription, describe, registrations
from mmflow.cli.contracts import contract as contract_of
from mmflow.cli.contracts import is_kind
from mmflow.plugin.component import first_sentence

ROOT = Path(__file__).parents[1]
DISTRIBUTION = "mmflow-kit"
"""Plugins that happen to be installed beside it are left out."""
FOLDER = "components"
CITED = re.compile(
    r"(?P<names>[A-Z][\w'’-]+(?:(?: and | & |, )[A-Z][\w'’-]+)*(?: et al\.)?"
    r"|(?:van|von|de|den|der) (?:\w+ )*[A-Z][\w-]+(?: et al\.)?),? \(?(?P<year>(?:19|20)\d\d)\)?"
)
"""Authors with a year, as docstrings cite."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The components join the navigation, a section for each kind."""
    sections: list[Any] = [f"{FOLDER}/index.md"]
    for kind, found in by_kind().items():
        pages: list[Any] = [f"{FOLDER}/{kind}/index.md"]
        sections.append({plural(kind): pages + [{one.name: address(one)} for one in found]})
    assert config.nav is not None
    place = next((n for n, entry in enumerate(config.nav) if "Explanation" in entry), len(config.nav))
    config.nav.insert(place, {"Components": sections})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for uri, content in pages().items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files outside of docs/ lead to the repository that mkdocs.yml names; without one they are plain text."""
    here = posixpath.dirname(page.file.src_uri)

    def elsewhere(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", here, link["target"]))
        if target.startswith("docs/") or target == "docs":
            return link[0]
        if not config.repo_url:
            return link["text"]
        return f"[{link['text']}]({config.repo_url.rstrip('/')}/blob/HEAD/{target})"

    return re.sub(r"\[(?P<text>[^\]\n]+)\]\((?P<target>\.\./[^)\s#]*)(?:#[^)\s]*)?\)", elsewhere, markdown)


def by_kind() -> dict[str, list[Description]]:
    """Every component that ships, by kind."""
    found: dict[str, list[Description]] = {}
    for one in registrations():
        if one.distribution == DISTRIBUTION:
            found.setdefault(one.kind, []).append(describe(one))
    return found


def pages() -> dict[str, str]:
    """Addresses with the Markdown of all pages about components."""
    kinds = by_kind()
    found = {f"{FOLDER}/index.md": "\n".join(_overview(kinds))}
    for kind, described in kinds.items():
        found[f"{FOLDER}/{kind}/index.md"] = "\n".join(_kind_page(kind, described))
        found |= {address(one): "\n".join(_component_page(one)) for one in described}
    return found


def address(one: Description) -> str:
    """`components/loss/infonce.md`. A component called `index` would take the place of its kind's page."""
    return f"{FOLDER}/{one.kind}/{one.name}{'_' if one.name == 'index' else ''}.md"


def plural(kind: str) -> str:
    words = kind.replace("_", " ")
    return {"memory": "memories", "modality": "modalities"}.get(
        kind, f"{words}{'es' if words.endswith('s') else 's'}"
    ).capitalize()


def _overview(kinds: dict[str, list[Description]]) -> Iterator[str]:
    yield "# Components"
    yield ""
    yield "Everything that a spec can name, from the declarations of the plugins that ship. `mmflow list` and"
    yield "`mmflow show NAME` tell the same of all that is installed."
    for kind, described in kinds.items():
        yield f"\n## [{plural(kind)}]({kind}/index.md)\n"
        yield ", ".join(f"[`{one.name}`]({posixpath.relpath(address(one), FOLDER)})" for one in described)


def _kind_page(kind: str, described: Sequence[Description]) -> Iterator[str]:
    yield f"# {plural(kind)}"
    yield ""
    if is_kind(kind):
        yield prose(contract_of(kind).doc)
        yield ""
        yield f"`mmflow show {kind}` prints what to write for one of your own."
        yield ""
    yield "| name | what it is |"
    yield "|---|---|"
    for one in described:
        yield f"| [`{one.name}`]({posixpath.basename(address(one))}) | {cell(prose(first_sentence(one.doc)))} |"


def _component_page(one: Description) -> Iterator[str]:
    yield f"# {one.name}"
    yield ""
    yield f"{one.kind.capitalize()}, written `use: {one.name}`. All of its kind: [{plural(one.kind)}](index.md)."
    yield ""
    if one.error:
        yield f"!!! failure\n\n    It cannot be imported here: {prose(one.error)}"
        return
    yield prose(one.doc)
    yield ""
    if one.example:
        yield f"## Example\n\n```yaml\n{one.example}\n```\n"
    yield "## Fields"
    yield ""
    if one.fields:
        yield "| field | type | bounds | default | |"
        yield "|---|---|---|---|---|"
        yield from map(_row, one.fields)
    else:
        yield "None."
    yield ""
    if cited := citations(one.doc):
        yield "## In the literature\n"
        yield from (f"- {text}" for text in cited)
        yield ""
    yield "## Where it is\n"
    if one.requires:
        extra = f", which `pip install '{one.distribution}[{one.extra}]'` brings" if one.extra else ""
        yield f"- Needs {', '.join(f'`{name}`' for name in one.requires)}{extra}."
    yield f"- Class `{one.path}`{_code(one)}."


def _row(field: FieldDescription) -> str:
    default = "required" if field.default is None else f"`{field.default}`" if field.default else "empty"
    about = prose(field.description) + ("" if field.in_identity else " (no part of the key)")
    cells = (f"`{field.name}`", prose(field.type), prose(field.bounds), default, about.strip())
    return f"| {' | '.join(map(cell, cells))} |"


def _code(one: Description) -> str:
    """The component's file, as a link from its page."""
    file = Path(one.source.rpartition(":")[0])
    if not file.is_relative_to(ROOT):
        return ""
    name = file.relative_to(ROOT).as_posix()
    return f" in [`{name}`](../../../{name})"


def citations(doc: str) -> list[str]:
    """`van den Oord et al., 2018` and its like in a text, in order."""
    text = " ".join(doc.split())
    return list(dict.fromkeys(f"{found['names']}, {found['year']}" for found in CITED.finditer(text)))


def prose(text: str) -> str:
    """A docstring as Markdown: what is no code shows as it is written, formulas stay blocks."""
    lines, code = [], False
    for line in inspect.cleandoc(text).splitlines():
        block = line.startswith("    ")
        if block and not code and lines and lines[-1]:
            lines.append("")
        code = block or (code and not line)
        lines.append(line if block else _plain(line))
    return "\n".join(lines)


def _plain(line: str) -> str:
    spans = line.split("`")
    if len(spans) % 2 == 0:
        # A code span that goes on in the next line.
        return line
    for place in range(0, len(spans), 2):
        spans[place] = re.sub(r"[*\[\]]", r"\\\g<0>", spans[place].replace("&", "&amp;").replace("<", "&lt;"))
    return "`".join(spans)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
