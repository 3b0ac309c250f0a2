"""Encodings of the rows of one entry of data: one output of one encoder, stored under a key of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmflow.plugin.values import Encoding, Tokens
from mmflow.redaction import redacted_data

if TYPE_CHECKING:
    from torch import Tensor


class EncodingsArtifact:
    """Stored encodings: `encoding.safetensors` with values, mask and presence, `rows.json` with ids and skipped."""

    def __init__(self, folder: Path) -> None:
        self._tensors, self._rows = folder / "encoding.safetensors", folder / "rows.json"

    def write(self, encoding: Encoding, ids: Sequence[str], skipped: Mapping[str, str]) -> None:
        """An encoding with one output for the rows `ids`; `skipped` are samples left out, with the reason."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {} if encoding.present is None else {"present": encoding.present.contiguous()}
        ((name, value),) = encoding.outputs.items()
        if isinstance(value, Tokens):
            tensors |= {"values": value.values.contiguous(), "mask": value.mask.contiguous()}
        else:
            tensors["values"] = value.contiguous()
        save_file(tensors, self._tensors)
        rows = {"output": name, "axes": encoding.axes, "ids": list(ids), "skipped": redacted_data(dict(skipped))}
        self._rows.write_text(json.dumps(rows))

    def read(self) -> tuple[Encoding, list[str], dict[str, str]]:
        """The encoding, the ids of its rows, and the samples that were left out."""
        from safetensors.torch import load_file

        tensors = load_file(self._tensors)
        rows = json.loads(self._rows.read_text())
        value = Tokens(tensors["values"], tensors["mask"]) if "mask" in tensors else tensors["values"]
        encoding = Encoding({rows["output"]: value}, tuple(rows["axes"]), tensors.get("present"))
        return encoding, rows["ids"], rows["skipped"]
