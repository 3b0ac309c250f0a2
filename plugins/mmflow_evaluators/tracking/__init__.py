"""Objects over time: whether each keeps its identity."""
