"""Losses on distances between embeddings."""
