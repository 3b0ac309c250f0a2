"""Plain data to YAML that both versions of YAML read alike."""

from __future__ import annotations

import yaml

from mmflow.plugin.references import Written
from mmflow.spec.text.scalars import core_scalar


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Written) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 would not read as text; texts that only YAML 1.2 reads as numbers are added here
    try:
        plain = isinstance(core_scalar(text), str)
    except ValueError:
        plain = False
    style = '"' if any(char in text for char in "\x85\u2028\u2029\ufeff") else None if plain else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def write_yaml(data: Written) -> str:
    """The YAML text of dicts, lists and scalars, in their order, that `parse_text` reads back as equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)


def flow_style(data: Written) -> str:
    """`data` on one line, as a person would write it into a spec."""
    text = yaml.dump(data, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("...\n").strip()
