"""One message for whatever is raised: the entry, the class, the place in the code; no bare name of an exception."""

from __future__ import annotations

import pytest

from mmflow.plugin import ComponentError, Loss, Owner
from mmflow.plugin.failures import building, inside, told
from mmflow.plugin.samples import SampleError

OWNER = Owner("losses", "odd")


class Odd(Loss, name="odd"):
    """A loss whose code fails."""


def _inside(error: Exception) -> str:
    with pytest.raises(type(error)) as caught, inside("stage fit", Odd()), inside(OWNER, Odd()):
        raise error
    return told(caught.value)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyError("depth"), "there is no 'depth' (KeyError, "),
        (TypeError("unhashable type: 'list'"), "unhashable type: 'list' (TypeError, "),
        (ZeroDivisionError(), "an error without a message (ZeroDivisionError, "),
        (RuntimeError("first\nsecond"), "first (RuntimeError, "),
    ],
)
def test_an_error_in_the_code_of_a_component_names_entry_class_and_line(error: Exception, says: str) -> None:
    message = _inside(error)
    assert message.startswith(f"losses.odd (loss odd, {__name__}.Odd): {says}")
    assert f"{__file__}:" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ComponentError("losses.odd is off", expected="rows", hint="add"), "losses.odd is off; expected rows; add"),
        (SampleError("sample 'a' of losses.odd"), "sample 'a' of losses.odd"),
        (FileNotFoundError(2, "No such file or directory", "a.png"),
         f"losses.odd (loss odd, {__name__}.Odd): a.png: No such file or directory"),
    ],
)  # fmt: skip
def test_an_error_that_says_what_is_wrong_is_told_as_it_is(error: Exception, message: str) -> None:
    assert _inside(error) == message


def test_memory_that_is_not_enough_is_told_with_the_fix() -> None:
    assert told(MemoryError()).endswith("lower batch_size, or set micro_batch_size")


def test_what_cannot_be_built_belongs_to_its_entry() -> None:
    with pytest.raises(ComponentError) as caught, building(OWNER, Odd()):
        raise AttributeError("no such thing")
    assert caught.value.owner == ("losses", "odd")
    assert isinstance(caught.value.__cause__, AttributeError)
