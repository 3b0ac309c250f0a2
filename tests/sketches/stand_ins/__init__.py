"""Small components that stand in for those that the sketches of the language name and nobody has written yet."""
