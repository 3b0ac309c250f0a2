"""Transforms of texts and sequences of ids."""
