"""How to fix the syntax errors that people make in YAML."""

from __future__ import annotations

import re

from mmflow.spec.text.problems import shown


def advice(what: str, near: list[str]) -> str:
    """How to fix the syntax errors that people make; `near` are the lines where it was noticed and where it began."""
    line = near[0] if near else ""
    both = "\n".join(near)
    if "\t" in both:
        return "indent with spaces, not with tabs"
    if re.search(r"\w\[\w*\]", both):
        return "references use dots only: write image.0, not image[0]"
    if "${" in both:
        return 'write $vars.NAME, or put the text in quotes: "${vars.NAME}"'
    if "alias" in what:
        return 'put a text that begins with * in quotes: "*"'
    if "anchor" in what:
        return "put a text that begins with & in quotes"
    if "mapping values are not allowed" in what:
        return "put a text that holds `: ` in quotes, and indent the keys of one mapping alike"
    if "cannot start any token" in what:
        return "put a text that begins with @, ` or % in quotes"
    if "escape" in what:
        return "use single quotes, in which a backslash is a backslash, or correct the escape"
    if "quoted scalar" in what:
        return "close the quotes"
    if "flow" in what:
        return "close every [ with ] and every { with }, and put commas between"
    if "expected key" in what or "block end" in what or "'-'" in what:
        return "indent the keys of one mapping, and the dashes of one list, alike"
    return f"look at {shown(line.strip())}" if line.strip() else "look at the line above"
