"""Choosing among the few candidates that belong to a row: one right answer of several, and two pairs to match."""
