"""Times: moments of a video that a text names, and boundaries between segments."""
