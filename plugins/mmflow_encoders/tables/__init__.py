"""Learned tables of vectors."""
