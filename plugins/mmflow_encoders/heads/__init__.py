"""Projections of vectors, tokens and grids."""
