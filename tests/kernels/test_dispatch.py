import pytest
import torch

from mmflow.kernels.dispatch import choose


@pytest.fixture(autouse=True)
def _no_force(monkeypatch):
    monkeypatch.delenv("MMFLOW_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_cpu_tensors_are_streamed_by_default():
    assert choose("op", torch.ones(2)) == "chunked"


@pytest.mark.parametrize("word", ["reference", "chunked"])
def test_environment_forces_a_form(monkeypatch, word):
    monkeypatch.setenv("MMFLOW_KERNELS", word)
    assert choose("op", torch.ones(2)) == word


def test_argument_wins_over_environment(monkeypatch):
    monkeypatch.setenv("MMFLOW_KERNELS", "reference")
    assert choose("op", torch.ones(2), backend="chunked") == "chunked"


def test_unknown_words_are_refused_with_the_known_ones(monkeypatch):
    with pytest.raises(ValueError, match=r"'cuda'; known are reference, chunked, triton"):
        choose("op", torch.ones(2), backend="cuda")
    monkeypatch.setenv("MMFLOW_KERNELS", "fast")
    with pytest.raises(ValueError, match="MMFLOW_KERNELS is 'fast'"):
        choose("op", torch.ones(2))


def test_triton_asked_by_argument_is_refused_where_it_cannot_run(monkeypatch):
    with pytest.raises(ValueError, match="not on a CUDA device"):
        choose("op", torch.ones(2), backend="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("op", torch.ones(2), backend="triton") == "triton"
    with pytest.raises(ValueError, match="float64"):
        choose("op", torch.ones(2, dtype=torch.float64), backend="triton")
    with pytest.raises(ValueError, match="rare option"):
        choose("op", torch.ones(2), backend="triton", without_triton="rare option")


def test_triton_asked_by_environment_falls_back_to_streaming(monkeypatch):
    monkeypatch.setenv("MMFLOW_KERNELS", "triton")
    assert choose("op", torch.ones(2)) == "chunked"
