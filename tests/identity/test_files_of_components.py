"""Every field of an installed component that names a file has the content of the file in the key."""

from __future__ import annotations

import re

import pytest

from mmflow.identity.files import content_of
from mmflow.plugin import Component, ComponentError
from mmflow.plugin.marks import known_by_content
from mmflow.plugin.registry import Registration, registry

NAMES_A_FILE = re.compile(r"(?:^|_)(?:urls?|paths?|files?|folder|root|init|vocabulary|checkpoint|hub)(?:$|_)")
SAYS_A_FILE = re.compile(r"\b(?:file|folder|fsspec|URL|on disk)\b")


def fields_that_name_files(component: type[Component]) -> list[str]:
    found = []
    for name, field in component.model_fields.items():
        text = "str" in str(field.annotation) or "Path" in str(field.annotation)
        if text and (NAMES_A_FILE.search(name) or SAYS_A_FILE.search(field.description or "")):
            found.append(name)
    return found


KEYLESS = ("tracker", "service")
"""Kinds that write somewhere or ask somebody: nothing that they name is read into a result."""
READING = [found for found in registry().registrations() if found.kind not in KEYLESS]


@pytest.mark.parametrize("registration", READING, ids=lambda r: f"{r.kind}/{r.name}")
def test_a_file_that_a_component_reads_is_in_its_key(registration: Registration):
    component = registry().get(registration.kind, f"{registration.name}@{registration.distribution}")
    named = [name for name in fields_that_name_files(component) if not known_by_content(component, name)]
    bases = [base for base in component.__mro__ if issubclass(base, Component) and "fingerprint" in vars(base)]
    own = [base for base in bases if not vars(base).get("_opens_kind") and base is not Component]
    assert not named or own, f"{', '.join(named)}: declare the field with `by_content`, or write `fingerprint`"


def test_the_patterns_find_what_they_must():
    get = registry().get
    assert fields_that_name_files(get("encoder", "vit")) == ["init"]
    assert fields_that_name_files(get("source", "table"))
    assert fields_that_name_files(get("tokenizer", "tokenizer_file"))


@pytest.mark.parametrize("url", ["/dev/null", "file:///dev/null"])
def test_a_device_has_no_content(url: str):
    with pytest.raises(ComponentError, match=r"no file \(a device or a pipe\)"):
        content_of(url, says="init")
