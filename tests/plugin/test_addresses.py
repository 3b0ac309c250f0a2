"""Addresses: equal parts give equal draws anywhere, and different parts different ones."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow.plugin import Address, address, numpy_generator

PARTS = st.lists(st.one_of(st.integers(), st.text()), max_size=5)


@given(PARTS, PARTS)
def test_different_parts_are_different_addresses(one: list[int | str], other: list[int | str]) -> None:
    same = [(type(a), a) for a in one] == [(type(b), b) for b in other]
    assert (address(*one) == address(*other)) == same
    assert 0 <= address(*one) < 2**63


def test_parts_do_not_run_together() -> None:
    assert len({address("ab", "c"), address("a", "bc"), address("abc"), address(1, 12), address(11, 2)}) == 5
    assert address(1) != address("1")


def test_addresses_stay_what_they_are() -> None:
    """A change here changes every draw of every run that was ever stored."""
    digest = hashlib.blake2b(b"i1:0s4:viewi1:1s3:i\xc3\xa9i2:-2", digest_size=8).digest()
    assert address(0, "view", 1, "ié", -2) == int.from_bytes(digest, "little") % 2**63
    expected = np.random.Generator(np.random.PCG64(address(7, "order", 0))).permutation(6).tolist()
    assert numpy_generator(7, "order", 0).permutation(6).tolist() == expected


@given(PARTS, PARTS)
def test_an_address_goes_on_as_if_it_had_been_written_at_once(begin: list[int | str], rest: list[int | str]) -> None:
    one, other = Address(*begin).at(*rest).generator(), Address(*begin, *rest).generator()
    assert one.integers(0, 2**62, 3).tolist() == other.integers(0, 2**62, 3).tolist()
    further = Address(*begin).at(*rest, 0).generator()
    assert one.integers(0, 2**62, 3).tolist() != further.integers(0, 2**62, 3).tolist()


def test_generators_of_neighboring_addresses_are_evenly_spread() -> None:
    """Neither the first draws of many addresses nor the draws of one lean to a side, or to those of a neighbor."""
    begin = Address(3, "view", 0)
    draws = np.array([begin.at(f"sample-{n}", "two", 0).generator().random(4) for n in range(4000)])
    # Means of 4000 even draws have a standard deviation of 0.0046, correlations one of 0.016.
    assert np.abs(draws.mean(0) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(draws[:-1].T, draws[1:].T) - np.eye(8)).max() < 0.07


def test_an_address_is_the_same_in_another_process_and_costs_no_torch() -> None:
    code = (
        "import sys; from mmflow.plugin import address; print(address(3, 'x', 4));"
        "assert not {'torch', 'numpy', 'prefect'} & set(sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == address(3, "x", 4)


def test_generators_of_addresses_stay_what_they_are() -> None:
    expected = hashlib.blake2b(b"i1:3s4:viewi2:-1", digest_size=32).digest()
    given = Address(3, "view").at(-1).generator().bit_generator.seed_seq
    assert given.generate_state(4, np.uint64).tobytes() == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", [1.5, None, True, b"x"])
def test_parts_are_ints_and_strings(part: object) -> None:
    with pytest.raises(TypeError):
        address(part)  # type: ignore[arg-type]
