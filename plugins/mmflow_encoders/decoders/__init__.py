"""Decoders: from encodings back to texts and images."""
