"""Towers as a folder of open_clip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmflow_pretrained.encoders import same_model
from mmflow_pretrained.sentences import no_head

from mmflow.plugin import ComponentError, Exported
from mmflow_open_clip.configuration import FILE
from mmflow_open_clip.description import FILES, Model

FORM = "open_clip"


def export(folder: Path, parts: Sequence[Exported], model: Model) -> str:
    """Write both towers, the one that is not given from where the model comes; returns lines of Python."""
    from safetensors.torch import save_file

    same_model(FORM, parts)
    for part in parts:
        no_head(FORM, part.encoder)
    if model.hub is None and len(parts) < 2:
        raise ComponentError(f"{model.shown} has a further tower", hint="write both: --of IMAGE,TEXT")
    whole: Any = model.build(weights=model.hub is not None)
    for part in parts:
        tower = getattr(part.encoder, "tower", "")
        target = whole.visual if tower == "image" else getattr(whole, "text", whole)
        state = part.module.state_dict()
        _, unknown = target.load_state_dict(state, strict=False)
        assert not unknown, unknown
    configuration, images = model.configuration()
    if images.get("quick_gelu"):
        configuration["quick_gelu"] = True
    save_file({name: value.contiguous() for name, value in whole.state_dict().items()}, folder / FILES[0])
    stored = {"model_cfg": configuration, "preprocess_cfg": dict(images)}
    (folder / FILE).write_text(json.dumps(stored, indent=1) + "\n")
    return (
        "import open_clip, torch\nfrom PIL import Image\n\n"
        'place = "local-dir:PATH OF THIS FOLDER"\n'
        "model, _, prepare = open_clip.create_model_and_transforms(place)\n"
        "tokenize = open_clip.get_tokenizer(place)\nmodel.eval()\nwith torch.no_grad():\n"
        '    images = model.encode_image(prepare(Image.open("image.jpg")).unsqueeze(0))\n'
        '    texts = model.encode_text(tokenize(["a text"]))'
    )
