"""Soft targets of pairs: a softmax of the scores of two further matrices, computed by tile."""
