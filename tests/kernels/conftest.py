"""Without a GPU, Triton kernels run in its interpreter; the switch is read when a kernel is first imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
