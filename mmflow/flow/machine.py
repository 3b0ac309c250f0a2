"""The machine that a stage runs on: its devices, and what a stage's record says of it."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from mmflow.artifacts import Environment
from mmflow.plugin.component import ComponentError

_SHOWN_VERSIONS = ("mmflow-kit", "torch", "torchvision", "triton", "numpy", "scikit-learn", "prefect", "pydantic")


def choose_device(wanted: str) -> str:
    """`auto`: the first GPU, else the CPU; otherwise the device of that name, or `ComponentError` if it is not here."""
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ComponentError(f"there is no device {wanted!r}", expected="auto, cpu, cuda, cuda:NUMBER or mps") from None
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ComponentError(
            f"device {wanted!r} cannot be used: {first}", hint="`auto` takes the best one of this machine"
        ) from None
    return str(device)


def environment(device: str) -> Environment:
    """Where a stage ran, for its record: versions, the device, the number of cores."""
    versions: dict[str, str] = {}
    for name in _SHOWN_VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": device,
        "device_name": _device_name(device),
        "versions": versions,
    }


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return platform.processor() or platform.machine()
    import torch

    return torch.cuda.get_device_name(device)
