"""A batch split over processes gives the loss and the gradients of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

PROGRAM = Path(__file__).with_name("contrast_ranks_program.py")


# a block's form and how blocks travel know nothing of each other
@pytest.mark.parametrize(
    ("ranks", "exchange", "form"), [(4, "ring", "chunked"), (3, "gather", "chunked"), (2, "ring", "triton")]
)
def test_processes_agree_with_one(ranks, exchange, form, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    if form == "triton":
        pytest.importorskip("triton")
        environment["TRITON_INTERPRET"] = "1"
    running = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(rank), str(ranks), str(tmp_path / "store"), exchange, form],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in range(ranks)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * ranks, "\n".join(outputs)
