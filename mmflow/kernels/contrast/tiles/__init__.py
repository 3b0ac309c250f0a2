"""A tile of scores: sizes, the constant that is subtracted, the marks of its pairs; in PyTorch and in Triton."""
