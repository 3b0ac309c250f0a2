"""The checks of an encoder: outputs as declared, and rows that depend on nothing but themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mmflow.plugin import Component, Encoded, Encoder, Encoding, TensorType, Tokens, Value
from mmflow.plugin.references import reference_fields
from mmflow.plugin.values import Argument, State
from mmflow.testing.faults import Fault
from mmflow.testing.samples import RAW, inputs_of

ROWS = 4


@dataclass(frozen=True)
class EncoderCase:
    """An encoder, the types of its inputs, and, where made-up values do not do, the author's own.

    `values(ragged)` gives one value an input: [N, ...] tensors in float64, or `Tokens` whose rows end in padding where
    `ragged`.
    """

    component: Encoder
    kinds: tuple[TensorType, ...]
    values: Callable[[bool], list[Argument]] | None = None
    name: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        return self.name or f"encoder/{self.component.use}"

    def given(self, *, ragged: bool = False) -> list[Argument]:
        if self.values is not None:
            return self.values(ragged)
        return inputs_of(self.component, self.kinds, ROWS, ragged=ragged)[0]

    @cached_property
    def state(self) -> State:
        return inputs_of(self.component, self.kinds, ROWS)[1] if self.component.learns() else {}

    @property
    def outputs(self) -> Mapping[str, TensorType]:
        return self.component.outputs(*self.kinds)

    @property
    def by_row(self) -> bool:
        """Whether rows of the result depend on themselves alone."""
        return self.component.scope() == "row" and any(kind.axes[0] == "sample" for kind in self.kinds)

    @property
    def padded(self) -> bool:
        """Whether an input may end in padding."""
        return self.by_row and any(kind.modality == "text" or kind.size[:1] == (None,) for kind in self.kinds)

    def kinds_of(self, values: list[Argument]) -> list[TensorType | None]:
        """The type of each value; None for one that the author gives beside the inputs, row by row."""
        return [*self.kinds[: len(values)], *[None] * (len(values) - len(self.kinds))]

    def module(self) -> nn.Module | None:
        """The module in float64, with weights drawn wide, so that nothing is invisibly small."""
        if not self.component.has_weights:
            return None
        torch.manual_seed(0)
        module = self.component.build(*self.kinds, state=self.state).double()
        for parameter in module.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.3)
        return module

    def call(
        self, module: nn.Module | None, values: list[Argument], *, only: Iterable[str] | None = None
    ) -> dict[str, Argument]:
        """All outputs with the taps, or those in `only`; arguments have the form in which the core gives them."""
        encoder = self.component
        function: Callable[..., Argument] = module.forward if module is not None else encoder.apply  # type: ignore[attr-defined]
        parameters = inspect.signature(function).parameters
        fields = type(encoder).model_fields
        named = {name: _field(encoder, name) for name in [*parameters][len(values) :] if name in fields}
        if "generator" in parameters:
            named["generator"] = torch.Generator().manual_seed(0)
        if Encoded in reference_fields(type(encoder))["of"]:
            values = [
                _encoding(encoder, value, kind) for value, kind in zip(values, self.kinds_of(values), strict=True)
            ]
        asked = tuple(name for name in encoder.taps() if only is None or name in only)
        result = function(*values, **named, **({"taps": asked} if "taps" in parameters else {}))
        return dict(result) if isinstance(result, Mapping) else {"pooled": result}


def check_shapes(case: EncoderCase) -> None:
    """Outputs have the names, axes, sizes and dtypes that are declared."""
    module = case.module()
    if module is not None:
        module.float()
    values = [_single(value) for value in case.given()]
    torch.manual_seed(0)
    _compare(case, case.call(module, values, only=case.outputs), case.outputs)


def check_traceable(case: EncoderCase) -> None:
    """`check --shapes` can follow it: it builds on the meta device, and fake tensors pass through."""
    if case.component.untraceable or "score" in type(case.component).model_fields:
        return
    # Decoding stops by the ids that it finds.
    types = {name: kind for name, kind in case.outputs.items() if name != "generated"}
    with torch.device("meta"):
        module = case.component.build(*case.kinds, state=case.state) if case.component.has_weights else None
    with FakeTensorMode(allow_non_fake_inputs=True):
        module = module.to_empty(device="cpu") if module is not None else None
        _compare(case, case.call(module, [_single(value) for value in case.given()], only=types), types)


def check_taps(case: EncoderCase) -> None:
    """Taps come when asked, and change no bit of the other outputs."""
    if not case.component.taps():
        return
    module = case.module()
    assert module is not None
    values = case.given(ragged=True)
    plain, tapped = case.call(module.eval(), values, only=()), case.call(module, values)
    if set(tapped) != set(plain) | set(case.component.taps()):
        raise Fault(case, "taps that are declared do not come", found=sorted(tapped), expected=case.component.taps())
    for name, value in plain.items():
        if not torch.equal(_tensor(value), _tensor(tapped[name])):
            raise Fault(case, f"asking for taps changes the output `{name}`")


def check_other_rows(case: EncoderCase) -> None:
    """In evaluation the other rows of a batch and their order change nothing, batch norm included."""
    if not case.by_row:
        return
    module = case.module()
    if module is not None:
        module.eval()
    values = case.given(ragged=True)
    whole = case.call(module, values)
    for index, says in (
        (torch.tensor([1]), "the other rows change"),
        (torch.tensor([3, 0, 2, 1]), "their order changes"),
    ):
        part = case.call(module, [_rows(v, k, index) for v, k in zip(values, case.kinds_of(values), strict=True)])
        for name, value in whole.items():
            if case.outputs[name].axes[0] == "sample":
                _close(case, _tensor(part[name]), _tensor(value)[index], f"{says} the output `{name}` of a row")


def check_padding(case: EncoderCase) -> None:
    """Places of padding, and the values in them, change nothing."""
    if not case.padded:
        return
    module = case.module()
    if module is not None:
        module.eval()
    values = case.given(ragged=True)
    tight, wide = case.call(module, values), case.call(module, [_padded(value) for value in values])
    for name, value in tight.items():
        if isinstance(value, Tokens):
            other = wide[name]
            _close(case, other.values[other.mask], value.values[value.mask], f"padding changes the output `{name}`")
        elif case.outputs[name].modality != "attention":
            _close(case, wide[name], value, f"padding changes the output `{name}`")
        elif not wide[name].isfinite().all():
            raise Fault(case, f"padding makes the output `{name}` infinite or NaN")


def check_micro_batches(case: EncoderCase) -> None:
    """Micro-batches give the outputs and gradients of the whole."""
    still = not case.component.draws() and not case.component.batch_statistics()
    module = case.module()
    if module is None or not still or not case.by_row:
        return
    module.train()
    values = case.given(ragged=True)

    def gradients(parts: list[Tensor]) -> dict[str, Tensor]:
        module.zero_grad()
        for index in parts:
            rows = [_rows(v, k, index) for v, k in zip(values, case.kinds_of(values), strict=True)]
            found = [_tensor(value) for value in case.call(module, rows).values()]
            loss = torch.stack([v.square().sum() for v in found if v.is_floating_point()]).sum()
            if loss.requires_grad:
                loss.backward()
        return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}

    expected = gradients([torch.arange(ROWS)])
    found = gradients([torch.tensor([0]), torch.tensor([1, 2]), torch.tensor([3])])
    if found.keys() != expected.keys():
        raise Fault(case, "micro-batches reach other parameters", found=sorted(found.keys() ^ expected.keys()))
    for name, gradient in expected.items():
        _close(case, found[name], gradient, f"micro-batches change the gradient of {name}")


def check_says_that_it_draws(case: EncoderCase) -> None:
    """Two passes in training differ where `draws()` is true, and nowhere else."""
    module = case.module()
    if module is None:
        return
    module.train()
    values = case.given()
    first, second = (case.call(module, values, only=()) for _ in range(2))
    same = all(torch.equal(_tensor(value), _tensor(second[name])) for name, value in first.items())
    if same and case.component.draws():
        raise Fault(case, "`draws()` is true, but two passes in training are the same")
    if not same and not case.component.draws():
        raise Fault(case, "two passes in training differ: it draws without an address; say so in `draws()`")


def check_saved(case: EncoderCase) -> None:
    """Weights that are saved and loaded into a new module give the same bits."""
    module = case.module()
    if module is None:
        return
    again = case.component.build(*case.kinds, state=case.state).double()
    missing = again.load_state_dict(module.state_dict(), strict=False)
    if missing.missing_keys or missing.unexpected_keys:
        raise Fault(case, "a second module has other weights", found=missing)
    values = case.given(ragged=True)
    torch.manual_seed(0)
    first = case.call(module.eval(), values, only=())
    torch.manual_seed(0)
    second = case.call(again.eval(), values, only=())
    for name, value in first.items():
        if not torch.equal(_tensor(value), _tensor(second[name])):
            raise Fault(case, f"loaded weights give another output `{name}`: it keeps state outside its weights")


CHECKS = (
    check_shapes,
    check_traceable,
    check_taps,
    check_other_rows,
    check_padding,
    check_micro_batches,
    check_says_that_it_draws,
    check_saved,
)

_BY_MODALITY: Mapping[str, TensorType] = {
    "image": TensorType("image", size=(40, 50, 3)),
    "video": TensorType("video", ("sample", "frame"), (40, 50, 3), "uint8", groups=(3,)),
    "text": TensorType("text"),
    "audio": TensorType("audio", rate=8000),
    "series": TensorType("series", size=(None, 6)),
    "vector": TensorType("vector", size=(8,)),
    "tokens": TensorType("tokens", size=(None, 8)),
    "grid": TensorType("grid", size=(2, 3, 12)),
    "label": TensorType("label", dtype="int64", names=("a", "b", "c")),
    "number": TensorType("number"),
    "mask": TensorType("mask", size=(8, 8)),
}


def encoder_case(made: Component) -> EncoderCase:
    """A case with made-up inputs of the first modality that each input accepts; vectors where anything is."""
    assert isinstance(made, Encoder)
    accepted = made.accepts or (("vector",),) * max(1, len(made.of))
    names = [next((each for each in choices if each in _BY_MODALITY), "vector") for choices in accepted]
    if len(names) == 1:
        names *= max(1, len(made.of))
    return EncoderCase(made, tuple(_BY_MODALITY[name] for name in names[: max(1, len(made.of))]))


def _encoding(encoder: Encoder, value: Argument, kind: TensorType | None) -> Argument:
    """A value as an encoder receives it whose references are whole encodings."""
    if kind is None:
        return value
    if kind.modality in RAW:
        return Encoding({"value": value}, kind.axes)
    score = getattr(encoder, "score", None)
    output = score.needs[0] if score is not None else {"tokens": "tokens", "grid": "grid"}.get(kind.modality, "pooled")
    return Encoding({output: value}, kind.axes)


def _field(encoder: Encoder, name: str) -> Argument:
    value = getattr(encoder, name)
    return getattr(value, "value", value) if isinstance(value, Value) else value


def _compare(case: EncoderCase, outputs: Mapping[str, Argument], types: Mapping[str, TensorType]) -> None:
    if set(outputs) != set(types):
        raise Fault(case, "other outputs than declared", found=sorted(outputs), expected=sorted(types))
    for name, value in outputs.items():
        tensor, kind = _tensor(value), types[name]
        rows = ROWS if kind.axes[0] == "sample" else len(tensor)
        own = (rows, *kind.groups, *kind.size)
        fits = len(tensor.shape) == len(own) and all(
            size is None or found == size for found, size in zip(tensor.shape, own, strict=True)
        )
        if not fits:
            raise Fault(case, f"output `{name}` has another shape", found=tuple(tensor.shape), expected=own)
        if str(tensor.dtype) != f"torch.{kind.dtype}":
            raise Fault(case, f"output `{name}` has another dtype", found=tensor.dtype, expected=kind.dtype)


def _close(case: EncoderCase, found: Tensor, expected: Tensor, says: str) -> None:
    try:
        torch.testing.assert_close(found, expected)
    except AssertionError as error:
        difference = str(error).splitlines()[-1]
        raise Fault(case, says, found=difference) from None


def _rows(value: Argument, kind: TensorType | None, index: Tensor) -> Argument:
    if kind is not None and kind.axes[0] != "sample":
        return value
    return Tokens(value.values[index], value.mask[index]) if isinstance(value, Tokens) else value[index]


def _padded(value: Argument) -> Argument:
    """The same rows with three further places of padding, and other values in every padded place."""
    if not isinstance(value, Tokens):
        return value
    rows = len(value.values)
    more = torch.zeros(rows, 3, *value.values.shape[2:], dtype=value.values.dtype)
    values = torch.cat([value.values, more], dim=1)
    mask = torch.cat([value.mask, torch.zeros(rows, 3, dtype=torch.bool)], dim=1)
    values[~mask] = 7
    return Tokens(values, mask)


def _tensor(value: Argument) -> Tensor:
    return value.values if isinstance(value, Tokens) else value


def _single(value: Argument) -> Argument:
    if isinstance(value, Tokens):
        return Tokens(_single(value.values), value.mask)
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
