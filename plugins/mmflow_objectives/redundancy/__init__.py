"""Losses that keep the dimensions of vectors apart."""
