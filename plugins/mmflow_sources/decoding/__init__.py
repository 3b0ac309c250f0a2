"""From the bytes of a file to an image, a sound or a video."""
