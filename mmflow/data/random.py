"""The addresses of random draws, where they lay before they became a part of `mmflow.plugin`."""

from mmflow.plugin.addresses import Address, address, global_generators, numpy_generator

__all__ = ["Address", "address", "global_generators", "numpy_generator"]
