"""How the code is written: spelling, the field's terms, sizes of files, how much is left untyped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AVOIDED = re.compile(
    r"picture|\bmend(s|ed|ing)?\b|\banew\b|colour|behaviour|labelled|centre|grey|normalis|optimis|neighbour",
    re.IGNORECASE,
)
DELIBERATE: dict[str, tuple[str, ...]] = {
    "plugins/mmflow_samplers/__init__.py": ('"sampler/hard_neighbours": "sampler/hard_neighbors"',),
    "plugins/mmflow_samplers/balanced.py": ("renamed: ClassVar[Mapping[str, str]]",),
    "plugins/mmflow_synthetic/captions.py": ("text = f\"{pick(('', '', 'a picture of '",),
    "plugins/mmflow_synthetic/sentences.py": ('("car", "automobile"), ("picture", "image")',),
}
"""File -> lines (as they begin, stripped) that hold an old name on purpose: aliases, and words of data sets."""
TEXTS = (".py", ".md", ".yaml", ".toml", ".j2", ".css", ".cff")
LONGEST = 350
MOST_ANY = 150


def files(*folders: str, endings: tuple[str, ...] = TEXTS) -> list[Path]:
    return [
        p
        for f in folders
        for p in sorted((ROOT / f).rglob("*"))
        if p.suffix in endings and "__pycache__" not in p.parts
    ]


@pytest.mark.parametrize("folder", ["mmflow", "plugins", "docs", "specs", "examples", "README.md", "CONTRIBUTING.md"])
def test_spelling_is_american_and_words_are_the_fields_own(folder: str) -> None:
    found = []
    for path in files(folder) if (ROOT / folder).is_dir() else [ROOT / folder]:
        name = path.relative_to(ROOT).as_posix()
        if AVOIDED.search(name):
            found.append(name)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            deliberate = any(line.strip().startswith(start) for start in DELIBERATE.get(name, ()))
            if AVOIDED.search(line) and not deliberate:
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_deliberate_exceptions_are_still_there() -> None:
    for name, starts in DELIBERATE.items():
        lines = [line.strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
        for start in starts:
            assert any(line.startswith(start) for line in lines), f"{name}: {start}"


def test_no_file_is_too_long_to_read() -> None:
    sizes = {
        p.relative_to(ROOT).as_posix(): len(p.read_text(encoding="utf-8").splitlines())
        for p in files("mmflow", "plugins", endings=(".py",))
    }
    assert not {name: size for name, size in sizes.items() if size > LONGEST}


def test_little_is_left_untyped() -> None:
    lines = [
        line
        for path in files("mmflow", endings=(".py",))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\bAny\b", line) and not line.startswith(("from ", "import "))
    ]
    assert len(lines) < MOST_ANY
    assert not [line for line in lines if "scope: Any" in line]
