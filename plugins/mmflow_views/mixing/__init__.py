"""Transforms of a batch that mix each row with another row."""
