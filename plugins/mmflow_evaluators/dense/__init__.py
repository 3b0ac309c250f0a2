"""Places of an image: their classes, and how they move."""
