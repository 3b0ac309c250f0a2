"""Objects: boxes and masks that were found beside those that are there."""
