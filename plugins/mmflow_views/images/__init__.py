"""Transforms of images, clips, masks and boxes."""
