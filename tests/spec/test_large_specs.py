"""Specs that are too large, too long or too deep: one message with a line, within seconds and a bounded memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmflow.flow.plan import build_plan
from mmflow.model.outlook import outlook
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_spec, load_text
from mmflow.spec.references.views import copies_of, fields_of, needs_batch
from tests.machine import seconds_here

HEAD = "mmflow: 1\nname: large\ndata: {d: {use: shapes, size: 8, pixels: 16}}\n"
VIT = "{use: vit, of: image, size: 16}"
TRAINED = f"encoders: {{image: {VIT}, text: {{use: text_transformer, of: caption}}}}\n"


def _chain(section: str, count: int, first: str, following: Callable[[str], str]) -> str:
    lines = [f"  e{i}: {first if i == 0 else following(f'e{i - 1}')}\n" for i in range(count)]
    return f"{section}:\n{''.join(lines)}"


def _measured(of: str, data: str = "d") -> str:
    return f"eval: {{g: {{use: geometry, data: {data}, of: [{of}]}}}}\n"


def _same(count: int) -> str:
    return HEAD + _chain("encoders", count, VIT, lambda e: f"{{use: same, weights: {e}, of: image}}")


def _linear(count: int) -> str:
    return HEAD + _chain("encoders", count, VIT, lambda e: f"{{use: linear, of: {e}, dim: 8}}")


def _views(count: int) -> str:
    views = _chain("views", count, "{of: image, apply: [flip]}", lambda e: f"{{of: {e}, apply: [flip]}}")
    return f"{HEAD}{views}encoders: {{image: {{use: vit, of: e{count - 1}, size: 16}}}}\n{_measured('image')}"


def _temperatures(count: int) -> str:
    loss = "use: infonce, of: [image, text]"
    losses = _chain("losses", count, f"{{{loss}}}", lambda e: f"{{{loss}, temperature: losses.{e}.temperature}}")
    return f"{HEAD}{TRAINED}{losses}stages: {{f: {{use: train, data: d, steps: 1}}}}\n"


def _sources(count: int) -> str:
    lines = [f"  e{i}: {{use: subset, of: data.e{i - 1}, size: 4}}\n" for i in range(1, count)]
    return (
        f"mmflow: 1\nname: large\ndata:\n  e0: {{use: shapes, size: 8, pixels: 16}}\n{''.join(lines)}"
        f"encoders: {{image: {VIT}}}\n{_measured('image', f'e{count - 1}')}"
    )


def _stages(count: int) -> str:
    lines = [
        f"  s{i}: {{use: train, data: d, steps: 1, start: {f's{i - 1}' if i else 'init'}}}\n" for i in range(count)
    ]
    return f"{HEAD}{TRAINED}losses: {{a: {{use: infonce, of: [image, text]}}}}\nstages:\n{''.join(lines)}"


def _frozen(count: int) -> str:
    image = [VIT, *(f"{{use: frozen, weights: s{i}.image}}" for i in range(count - 1))]
    lines = [f"  s{i}: {{use: train, data: d, steps: 1, encoders: {{image: {one}}}}}\n" for i, one in enumerate(image)]
    return (
        f"{HEAD}encoders: {{text: {{use: text_transformer, of: caption}}}}\n"
        f"losses: {{a: {{use: infonce, of: [image, text]}}}}\nstages:\n{''.join(lines)}"
    )


CHAINS = [
    (_same, 60, 5000, "lead through one another"),
    (_linear, 60, 164, "lead through one another"),
    (_views, 60, 162, "lead through one another"),
    (_temperatures, 60, 400, "lead through one another"),
    (_frozen, 30, 400, "lead through one another"),
    (_sources, 32, 243, "are made of one another"),
    (_stages, 150, 1015, "more than 200 entries in `stages`"),
]


@pytest.mark.parametrize(("spec", "good", "long", "message"), CHAINS)
def test_a_chain_is_worked_out_or_refused_with_a_line(
    spec: Callable[[int], str], good: int, long: int, message: str
) -> None:
    text = spec(good)
    loaded = load_text(text if "eval" in text or "stages:" in text else text + _measured(f"e{good - 1}"))
    outlook(loaded)
    assert len(list(build_plan(loaded))) == len(loaded.stages)
    with pytest.raises(SpecError) as refused:
        load_text(spec(long))
    (found,) = [problem for problem in refused.value.problems if message in problem.message]
    assert found.mark is not None
    assert found.mark.line > 3
    assert found.hint


def _merge_keys(count: int) -> str:
    return "".join(f"m{i}: &m{i} {{{f'<<: *m{i - 1}, ' if i else ''}k{i}: 1}}\n" for i in range(count))


def _rounds(times: int, stages: int) -> str:
    """Stages that each begin with the one before, repeated."""
    lines = [
        f"      f{i}: {{use: train, start: {f'f{i - 1}' if i else 'carry.m'}, data: d, steps: 1}}\n"
        for i in range(stages)
    ]
    return (
        f"stages:\n  r:\n    use: repeat\n    times: {times}\n    carry: {{m: init}}\n    stages:\n"
        f"{''.join(lines)}    next: {{m: f{stages - 1}}}\n"
    )


LARGE = {
    "merge keys": _merge_keys(8000),
    "a reference": f"{HEAD}encoders: {{i: {{use: vit, of: image{'.a' * 60_000}, size: 16}}}}\n{_measured('i')}",
    "a path": f"{HEAD}{TRAINED}losses: {{a: {{use: infonce, of: [image, text], score: parts{'.a' * 60_000}}}}}\n",
    "a name": f"{HEAD}encoders: {{? {'e' * 120_000}\n: {VIT}}}\n",
    "a component": f"{HEAD}encoders: {{i: {{use: {'v' * 900_000}}}}}\n",
    "names to compare": HEAD
    + "encoders:\n"
    + "".join(f"  encoder_number_{i}: {{use: same, weights: encoder_numbr_{i}x}}\n" for i in range(10_000)),
    "fields to compare": f"{HEAD}encoders: {{i: {{use: vit, {', '.join(f'siz{i}: 1' for i in range(40_000))}}}}}\n",
    "sections": HEAD + "".join(f"encodrs{i}: {{}}\n" for i in range(30_000)),
    "sources that double": "mmflow: 1\ndata:\n  e0: {use: shapes, size: 8}\n"
    + "".join(f"  e{i}: {{use: mix, of: [data.e{i - 1}, data.e{i - 1}], weights: [1, 1]}}\n" for i in range(1, 31)),
    "files that are extended": f"extends: [{', '.join(['base.yaml'] * 30_000)}]\n",
    "an axis": f"{HEAD}{TRAINED}{_measured('image')}matrix: {{seed: [{', '.join(map(str, range(90_000)))}]}}\n",
    "axes": HEAD + TRAINED + _measured("image") + "matrix:\n"
    + "".join(f"  encoders.image.w{i}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" for i in range(500)),
    "members": HEAD + "encoders:\n" + "".join(f"  e{i}: {VIT}\n" for i in range(400)) + _measured("e0")
    + f"matrix: {{seed: [{', '.join(map(str, range(256)))}]}}\n",
    "iterations": f"{HEAD}{TRAINED}losses: {{a: {{use: infonce, of: [image, text]}}}}\n" + _rounds(100, 150),
    "streams": f"{HEAD}{TRAINED}losses: {{a: {{use: infonce, of: [image, text]}}}}\n"
    + f"train: {{steps: 1, data: {{{', '.join(f's{i}: d' for i in range(3000))}}}}}\n",
    "stages that need much": f"{HEAD}encoders:\n"
    + "".join(f"  e{i}: {VIT}\n" for i in range(450))
    + "eval:\n"
    + "".join(
        f"  g{i}: {{use: geometry, data: d, of: [{', '.join(f'e{j}' for j in range(450))}]}}\n" for i in range(200)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_is_answered_within_bounds(name: str) -> None:
    began = time.process_time()
    with pytest.raises(SpecError) as refused:
        load_text(LARGE[name])
    assert time.process_time() - began < seconds_here(5)
    assert all(problem.mark is not None and problem.mark.line > 0 for problem in refused.value.problems)
    assert len(refused.value.problems) <= 100
    assert max(len(str(problem)) for problem in refused.value.problems) < 2000


def test_views_that_read_two_fields_of_one_another_are_walked_once() -> None:
    views = "".join(f"  v{i}: {{of: [v{i - 1}.image, v{i - 1}.label], apply: [mixup]}}\n" for i in range(1, 50))
    text = (
        f"{HEAD}views:\n  v0: {{of: [image, label], apply: [mixup]}}\n{views}"
        f"encoders: {{i: {{use: vit, of: v49.image, size: 16}}}}\n{_measured('i')}"
    )
    began = time.process_time()
    loaded = load_text(text)
    target = Target("views", "v49")
    assert copies_of("v49", loaded.views) == 1
    assert set(fields_of(target, loaded.views)) == {"image", "label"}
    assert needs_batch(target, loaded.views)
    assert time.process_time() - began < seconds_here(5)


def test_merge_keys_take_no_memory_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(_merge_keys(800))
    code = (
        "import sys\n"
        "from mmflow.spec import SpecError, load_spec\n"
        "try: load_spec(sys.argv[1])\n"
        "except SpecError as error: assert all(p.mark.line for p in error.problems)\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "spec.yaml")]
    limit = (2**31, resource.RLIM_INFINITY)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    assert int(done.stdout) < 300_000  # KiB


def test_a_chain_of_models_is_walked_once_for_each_stage() -> None:
    text = f"{HEAD}{TRAINED}losses: {{a: {{use: infonce, of: [image, text]}}}}\n"
    load_text(text + _rounds(2, 10))
    began = time.process_time()
    assert len(load_text(text + _rounds(6, 150)).stages) == 900
    # By walking every chain to its end it took ten times as long.
    assert time.process_time() - began < 10


def test_a_device_is_not_extended(tmp_path: Path) -> None:
    for url in ("/dev/null", "file:///dev/null"):
        (tmp_path / "spec.yaml").write_text(f"{HEAD}extends: {url}\n")
        with pytest.raises(SpecError, match=r"spec.yaml:4:10: .*no file \(a device or a pipe\)"):
            load_spec(str(tmp_path / "spec.yaml"))


def test_what_is_told_of_a_step_has_short_lines() -> None:
    patterns = ", ".join(f"'{'*a' * 400}{i}'" for i in range(200))
    text = f"{HEAD}{TRAINED}losses: {{a: {{use: infonce, of: [image, text]}}}}\ntrain: {{data: d, steps: 1, groups: {{"
    groups = ", ".join(f"g{i}: {{match: {one}}}" for i, one in enumerate(patterns.split(", ")))
    assert max(map(len, outlook(load_text(f"{text}{groups}}}}}\n")))) < 1000
    frozen = TRAINED.replace("size: 16", f"size: 16, freeze: {{except: [{patterns}]}}")
    text = f"{HEAD}{frozen}losses: {{a: {{use: infonce, of: [image, text]}}}}\ntrain: {{data: d, steps: 1}}\n"
    (line,) = [line for line in outlook(load_text(text)) if "frozen" in line]
    assert len(line) < 1000
    assert line.endswith("and 188 more")
