"""`load_spec`: a file to a `Spec`, checked completely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmflow.spec.check import check_document
from mmflow.spec.spec import Spec
from mmflow.spec.text.expand import read_spec, read_text


def load_spec(source: str, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Spec:
    """The checked spec at a path or an fsspec URL; raises `SpecError` with everything that is wrong with it."""
    return check_document(read_spec(source, overrides, env))


def load_text(
    text: str | bytes, file: str = "<text>", overrides: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Spec:
    """`load_spec` for a text at hand; `file` names it in messages and is where `extends` starts from."""
    return check_document(read_text(text, file, overrides, env))
