"""Measurements of `mmflow.kernels` against other libraries: `python -m benchmarks.kernels --help`."""
