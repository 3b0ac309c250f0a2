"""Encoders that join or condense the outputs of other encoders."""
