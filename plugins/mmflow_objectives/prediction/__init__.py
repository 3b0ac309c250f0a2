"""Losses of a prediction against its target, row by row."""
