"""Losses that keep vectors sparse."""
