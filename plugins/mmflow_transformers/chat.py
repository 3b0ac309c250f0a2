"""Messages as a processor of transformers prepares them: ids of the whole prompt, and the images beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmflow_encoders.tokenizers.framing import well_formed
from mmflow_pretrained.images import as_pil

from mmflow.plugin import ComponentError
from mmflow_transformers.message import message

USE = "transformers_message"
_NOT_GIVEN = ("attention_mask", "num_image_tokens")


def as_message(value: Any) -> Any:
    """A message; a text or an image alone becomes one."""
    return value if isinstance(value, Mapping) else message("", [value])


def prepared(processor: Any, value: Any, *, generation_prompt: bool, longest: int | None) -> dict[str, Any]:
    """The arrays that the processor makes of one message, by the names under which the model takes them.

    `input_ids` [L], and of the same length what there is for each id; images as the processor gives them. Raises
    `ValueError` for a text with the mark of an image inside, and for more than `longest` ids.
    """
    given = as_message(value)
    parts = [well_formed(part) if isinstance(part, str) else as_pil(part, USE) for part in given["parts"]]
    images = [part for part in parts if not isinstance(part, str)]
    mark = _mark(processor)
    if mark and any(mark in part for part in (given["instruction"], *parts) if isinstance(part, str)):
        raise ValueError(f"the text holds {mark}, which stands for an image")
    prompt = _prompt(processor, given["instruction"], parts, mark, generation_prompt)
    first = getattr(processor.tokenizer, "bos_token", None)
    special = not (first is not None and prompt.startswith(first))
    found = processor(
        text=[prompt], images=[images] if images else None, return_tensors="pt", add_special_tokens=special
    )
    arrays = {name: each.numpy() for name, each in found.items() if name not in _NOT_GIVEN}
    ids = arrays["input_ids"]
    if longest is not None and ids.shape[1] > longest:
        raise ValueError(f"a message of {ids.shape[1]} ids, and the model reads {longest}")
    return {name: each[0] if each.shape == ids.shape else each for name, each in arrays.items()}


def _prompt(processor: Any, instruction: str, parts: list[Any], mark: str, generation_prompt: bool) -> str:
    if getattr(processor, "chat_template", None) is None:
        said = [instruction, *(part if isinstance(part, str) else mark for part in parts)]
        return "\n".join(part for part in said if part)
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in parts]
    system = [{"role": "system", "content": [{"type": "text", "text": instruction}]}] if instruction else []
    return processor.apply_chat_template(
        [*system, {"role": "user", "content": content}], tokenize=False, add_generation_prompt=generation_prompt
    )


def _mark(processor: Any) -> str:
    """What stands for an image in a prompt."""
    found = getattr(processor, "boi_token", None) or getattr(processor, "image_token", None)
    if found is None:
        raise ComponentError(
            f"the processor {type(processor).__name__} puts no images into a text",
            hint="write `use: transformers` with `tower`",
        )
    return str(found)
