"""Generated texts beside what people wrote."""
