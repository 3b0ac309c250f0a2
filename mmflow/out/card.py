"""The card of an exported model: what it is and how it is used, and numbers that a run has measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmflow.flow.report.collect import StageReport, collect
from mmflow.flow.report.summary import metric_rows, number, seconds
from mmflow.out.finding import FoundRun
from mmflow.out.model import LoadedModel
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import TensorType

_HEADS = ("metric", "value", "chance", "× chance")


def model_card(
    loaded: LoadedModel, encoders: Sequence[str], run: FoundRun | None, *, library: str = "mmflow", usage: str = ""
) -> str:
    """The card in Markdown. `run` is where the model was trained and measured; None for one that was exported before:
    then the card says what the model is, and nothing of its quality. `usage` are lines of Python for another library
    in whose form the model is."""
    parts = [f"---\nlibrary_name: {library}\ntags:\n- mmflow\n- feature-extraction\n---", f"# {_title(loaded, run)}"]
    parts.append(_table(("encoder", "reads", "gives", "parameters"), [_encoder(loaded, name) for name in encoders]))
    parts.append(f"## Use\n\n```python\n{usage.strip()}\n```" if usage else _usage(loaded, encoders))
    if run is not None:
        parts += _measured(loaded, run)
    return "\n\n".join(parts) + "\n"


def _title(loaded: LoadedModel, run: FoundRun | None) -> str:
    return f"{run.spec.name}: {loaded.stage}" if run is not None else loaded.name


def _encoder(loaded: LoadedModel, name: str) -> tuple[str, str, str, str]:
    owner = Owner("encoders", name)
    structure = loaded.scope.structure(owner).encoder
    reads = ", ".join(f"{field} ({_said(declared)})" for field, declared in loaded.fields(name).items())
    outputs = {name: each for name, each in loaded.scope.outputs(owner).items() if name not in structure.taps()}
    gives = ", ".join(f"{output} {_size(declared)}" for output, declared in outputs.items())
    module = str(loaded.scope.module(owner))
    count = sum(p.numel() for path, p in loaded.modules.modules.named_parameters() if path.startswith(f"{module}."))
    return f"{name} ({structure.use})", reads, gives, f"{count:,}"


def _said(declared: TensorType) -> str:
    rate = f", {declared.rate} samples a second" if declared.rate else ""
    return f"{declared.modality}{rate}"


def _size(declared: TensorType) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in (*declared.groups, *declared.size))}]"


def _usage(loaded: LoadedModel, encoders: Sequence[str]) -> str:
    name = encoders[0]
    fields = loaded.fields(name)
    values = {field: _example(declared) for field, declared in fields.items()}
    given = (
        next(iter(values.values()))
        if len(values) == 1
        else "{" + ", ".join(f'"{field}": {value}' for field, value in values.items()) + "}"
    )
    return (
        "## Use\n\n```python\nimport mmflow\n\nmodel = mmflow.load(\"PATH OF THIS FOLDER\")\n"
        f"vectors = model.encode({name}={given})[\"{name}\"]\n```\n\n"
        "`pip install mmflow-kit`. Preprocessing is part of the encoders."
    )  # fmt: skip


def _example(declared: TensorType) -> str:
    examples = {"image": '["image.jpg"]', "text": '["a text"]', "audio": '["sound.wav"]', "video": '["clip.mp4"]'}
    return examples.get(declared.modality, "[...]")


def _measured(loaded: LoadedModel, run: FoundRun) -> Iterator[str]:
    report = collect(run.store, run.record, run.spec, run.names, illustrated=False)
    stages = {stage.name: stage for stage in report.stages}
    if (trained := stages.get(loaded.stage)) is not None and trained.training:
        yield f"## Training\n\n{_training(trained)}"
    using = [stage for stage in report.stages if stage.metrics and run.spec.scope(stage.name).model == loaded.stage]
    if using:
        yield "## Measured"
    for stage in using:
        where = f" on {stage.rows:,} rows" if stage.rows is not None else ""
        yield f"### {stage.name} ({stage.use}){where}{f' of {stage.data}' if stage.data else ''}"
        yield _table(_HEADS, metric_rows(stage))
    if using:
        yield "Values stand beside their 95 % intervals, where these are known; chance is what guessing gives."
    versions = report.environment.get("versions", {})
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield f"## Origin\n\nRun `{run.record.id}`{f', made with {made}' if made else ''}. Its spec:"
    yield f"```yaml\n{run.text().strip()}\n```"


def _training(stage: StageReport) -> str:
    training = stage.training
    said = [f"`{stage.use}` on {stage.data}" if stage.data else f"`{stage.use}`"]
    if samples := training.get("samples"):
        said.append(f"{samples:,} samples")
    if "steps" in training and "batch_size" in training:
        said.append(f"{training['steps']:,} steps of {training['batch_size']:,} rows")
    said += (
        [f"{training['trained_parameters']:,} of {training['parameters']:,} parameters trained"]
        if ("parameters" in training and "trained_parameters" in training)
        else []
    )
    said += (
        [f"{seconds(training['seconds'])} on {training.get('device', 'an unknown device')}"]
        if ("seconds" in training)
        else []
    )
    last = next((line["loss"] for line in reversed(stage.history) if "loss" in line), None)
    said += [f"last logged loss {number(last)}"] if last is not None else []
    return ", ".join(said) + "."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
