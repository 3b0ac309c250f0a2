"""Tokenizers: bytes, and words or byte pairs learned from the training texts.

Ids 0 to 2 are padding, begin and end in all; every text begins with begin and ends with end, truncated or not.
"""
