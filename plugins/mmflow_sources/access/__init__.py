"""Reaching files: on any filesystem, over networks, under patterns, inside tar files."""
