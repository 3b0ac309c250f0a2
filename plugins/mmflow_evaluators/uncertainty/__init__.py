"""Whether a model knows how sure it may be."""
