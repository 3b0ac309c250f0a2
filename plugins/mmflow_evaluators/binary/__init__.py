"""Telling two kinds of row apart by a score: pairs that belong together, known and unknown classes."""
