"""The base of the encoders that other libraries build."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Self

from pydantic import model_validator

from mmflow.plugin import ComponentError, Encoder, Exported, Field, outside_identity
from mmflow_pretrained.folders import contents, is_local
from mmflow_pretrained.hub import commit_of


class LibraryEncoder(Encoder):
    """Base of the encoders of a library: the model by name or folder with its weights, or written out with new ones.

    A key has the content of a folder, weights included, and the commit that a name on the hub stands for. Raw values
    are prepared as the model's own configuration says; values that a view of the library has prepared pass unchanged.
    """

    hub: str | None = outside_identity(
        None, description="a folder with configuration and weights, or a name that the library knows"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    config: dict[str, Any] | None = Field(
        None, description="in place of `hub`: the configuration itself, with weights drawn at random"
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.hub is None) == (self.config is None):
            raise ValueError("give either `hub`, a name or folder, or `config`, a model with weights drawn at random")
        if self.revision is not None and (self.hub is None or is_local(self.hub)):
            raise ValueError("`revision` is of a name on the hub")
        return self

    def repository(self) -> str:
        """The repository on the hub behind a name that is no folder."""
        assert self.hub is not None
        return self.hub

    def commit(self) -> str:
        """The commit of the repository behind a name that is no folder."""
        return commit_of(self.repository(), self.revision)

    def commit_on_hub(self) -> str | None:
        """The commit of a name on the hub; None of a folder."""
        return None if self.hub is None or is_local(self.hub) else self.commit()

    def fingerprint(self) -> Any:
        if self.hub is None:
            return None
        if is_local(self.hub):
            return contents(self.hub, weights=True)
        return {"name": self.hub, "commit": self.commit()}

    def written(self) -> str:
        """The configuration as text, to keep what is made of it."""
        return json.dumps(self.config, sort_keys=True)


def same_model(form: str, parts: Sequence[Exported]) -> None:
    """Refuse encoders that are not towers of one model, each once."""
    models = {(getattr(part.encoder, "hub", None), part.encoder.use, _written(part.encoder)) for part in parts}
    towers = [getattr(part.encoder, "tower", None) for part in parts]
    if len(models) > 1 or len(set(towers)) < len(parts):
        said = [f"{part.encoder.use} {tower or ''}".strip() for part, tower in zip(parts, towers, strict=True)]
        hint = "name one encoder, or the towers of one model: --of NAME"
        raise ComponentError(f"a folder of {form} is one model", found=", ".join(said), hint=hint)


def _written(encoder: Encoder) -> str:
    return encoder.written() if isinstance(encoder, LibraryEncoder) else ""


def without_memory() -> bool:
    """Whether modules are built without memory now, so that reading weights would be in vain."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    probe = torch.empty(0)
    return probe.device.type == "meta" or isinstance(probe, FakeTensor)
