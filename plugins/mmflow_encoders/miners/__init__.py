"""Miners: rows to look at, chosen over the whole batch."""
