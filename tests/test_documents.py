"""Every code block of the documents is tried, and the site is built with strict links.

Specs are valid; those of a page in `RUN` run. Python runs, in one process a page, each block after what a comment above
it gives (`<!-- given: import torch -->`); `<!-- compiled only: WHY -->` stands above what needs more. Lines of a shell
are read by the command line of mmflow, up to what it would do.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from mmflow.cli.app import app
from mmflow.flow.run import RunOptions, run_members
from mmflow.plugin.registry import registry
from mmflow.spec import load_members
from mmflow.spec.components.schema import json_schema
from mmflow.spec.text.yaml_reader import parse_text

ROOT = Path(__file__).parents[1]
NAMES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/plugin/README.md")
PAGES = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = {
    "docs/data.md": "tests/end_to_end/test_data_page.py",
    "docs/recipes.md": "tests/end_to_end/test_recipes.py",
    "docs/embeddings.md": "tests/end_to_end",
}
"""Pages whose specs read files: the test that writes these files, and checks or runs the specs."""
RUN = ("docs/tutorial.md", "docs/coming-from.md")
OTHERS = ("pip", "pytest", "prefect", "make", "export", "pre-commit", "cd", "git")
"""Commands of a shell that are not ours."""
SMALLER = {"16384": "512"}
"""Sizes of examples that take their time."""
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>given|compiled only): (?P<said>.*?) -->\n\n?)?^```(?P<language>\S*)\n(?P<text>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    mark: str
    said: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text"))
        name = page.relative_to(ROOT).as_posix()
        yield Block(name, line, found["language"], found["text"], found["mark"] or "", found["said"] or "")


def test_every_block_says_its_language_and_every_mark_has_a_block() -> None:
    known = {"yaml", "python", "sh", "toml", "json", "text"}
    assert {block.language for page in PAGES for block in blocks_of(page)} <= known
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("\n```") == 2 * len(list(blocks_of(page)))
        marks = len(re.findall(r"^<!-- (?:given|compiled only)", text, flags=re.MULTILINE))
        assert marks == sum(bool(block.mark) for block in blocks_of(page)), page.name
    assert len(blocks("yaml")) > 40
    assert len(blocks("python")) > 10


# ---- specs


def test_specs_pass_the_schema_of_editors() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(json_schema())))
    found = []
    for block in blocks("yaml"):
        whole = "mmflow: 1" in block.text or "extends:" in block.text
        text = block.text if whole else f"extends: the-page.yaml\n{block.text}"
        data = parse_text(text, str(block)).data
        found += [f"{block}: {'.'.join(map(str, e.absolute_path))}: {e.message}" for e in validator.iter_errors(data)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if b.page not in ELSEWHERE], ids=str)
def test_a_spec_is_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named_specs(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "this.yaml").write_text(block.text)
    for member in load_members("this.yaml"):
        assert member.spec.stages or member.spec.data


def write_named_specs(page: str, folder: Path) -> None:
    """The whole specs of a page as files, by their names, for overlays over them."""
    for block in blocks_of(ROOT / page):
        if block.language == "yaml" and (name := re.search(r"^name: (\S+)$", block.text, flags=re.MULTILINE)):
            (folder / f"{name[1]}.yaml").write_text(block.text)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in blocks("yaml") if b.page in RUN], ids=str)
def test_a_spec_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named_specs(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    (tmp_path / "this.yaml").write_text(block.text)
    options = RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu", workers=0)
    result = run_members(load_members("this.yaml", ["train.epochs=1"]), options)
    assert result.exit_code == 0


def test_pages_with_files_have_a_test_of_their_own() -> None:
    for page, test in ELSEWHERE.items():
        assert (ROOT / test).exists(), page


# ---- Python, and what declares packages


@pytest.mark.process
@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")}))
def test_python_runs(page: str, tmp_path: Path) -> None:
    program = ["import sys, types"]
    for number, block in enumerate(b for b in blocks("python") if b.page == page):
        text = block.text
        for long, short in SMALLER.items():
            text = text.replace(long, short)
        compile(text, str(block), "exec")
        if block.mark != "compiled only":
            # A module of its own for each, so that declarations find what their annotations name.
            program += [f"block = types.ModuleType('block_{number}')", "sys.modules[block.__name__] = block"]
            program += [f"exec({block.said!r}, block.__dict__)"]
            program += [f"exec(compile({text!r}, {str(block)!r}, 'exec'), block.__dict__)"]
    (tmp_path / "blocks.py").write_text("\n".join(program))
    paths = os.pathsep.join([str(ROOT), str(ROOT / "examples" / "plugin")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "blocks.py"], cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("block", blocks("toml", "json"), ids=str)
def test_declarations_of_packages_can_be_read(block: Block) -> None:
    assert (tomllib.loads if block.language == "toml" else json.loads)(block.text)


# ---- commands


def parsed(words: list[str]) -> None:
    """Let the command line read the words after `mmflow`, without doing what they say."""
    command, left = leads_to(words)
    command.make_context("mmflow", left)


def leads_to(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words after it."""
    command: Any = typer.main.get_command(app)
    left = list(words)
    while (inside := getattr(command, "commands", None)) and left and not left[0].isupper():
        name = left.pop(0)
        assert name in inside, f"there is no command {name!r} in {words}"
        command = inside[name]
    return command, left


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell's lines, without comments and variables before them."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_lines_of_a_shell_can_be_read(block: Block) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for command, *words in commands(block.text):
        name = Path(command).name
        if name == "mmflow":
            parsed(words)
        else:
            assert name in OTHERS, f"{block}: {command}"
            assert name != "make" or words[0] in targets


def test_commands_within_sentences_are_commands() -> None:
    found = 0
    for page in PAGES:
        text = re.sub(BLOCK, "", page.read_text(encoding="utf-8"))
        for said in re.findall(r"`mmflow ([a-z][^`]*)`", text):
            command, words = leads_to(shlex.split(said.replace("\n", " "), comments=True))
            options = {option for one in command.params for option in one.opts} | {"--help"}
            named = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
            assert named <= options, f"{page.name}: mmflow {said}"
            found += 1
    assert found > 20


# ---- the site


@pytest.mark.process
def test_the_site_is_built_with_strict_links(tmp_path: Path) -> None:
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "site" / "components" / "loss" / "infonce.html").read_text(encoding="utf-8")
    for text in ("van den Oord et al., 2018", "divisor of the scores", "above 0", "use: infonce", "forward, backward"):
        assert text in re.sub(r"<[^>]+>", "", page)
    assert "plugins/mmflow_objectives" in page
    # It opens from disk: nothing is loaded from anywhere.
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"?https?://(?!squidfunk)", page)
    for one in registry().registrations():
        if one.distribution == "mmflow-kit":
            assert list((tmp_path / "site" / "components" / one.kind).glob(f"{one.name}*.html")), (
                f"{one.kind}/{one.name}"
            )
