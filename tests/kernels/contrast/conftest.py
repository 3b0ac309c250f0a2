import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 16, so that small matrices have several with a rest."""
    monkeypatch.setattr("mmflow.kernels.contrast.softmax.chunked.TILE", 16)
    monkeypatch.setattr("mmflow.kernels.contrast.sigmoid.chunked.TILE", 16)
    monkeypatch.setattr("mmflow.kernels.contrast.targets.chunked.Teacher.step", 16)
