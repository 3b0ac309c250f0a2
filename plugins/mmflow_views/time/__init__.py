"""Transforms along time: sounds [T], series [T, C] and clips [T, H, W, C]."""
