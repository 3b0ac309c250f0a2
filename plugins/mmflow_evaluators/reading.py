"""Modalities that evaluators read, under one name each: one class or number a row, rows of numbers."""

from __future__ import annotations

CLASS = ("label", "number", "index")
"""One whole number a row."""
NUMBER = ("number", "label")
TEXT = ("text",)
ROWS = ("series", "vector", "boxes")
"""Rows of numbers, or one of them."""
MARKS = ("series", "vector", "mask", "labels")
"""A number for each place of a sequence."""
