"""Small models on frozen vectors: from few rows, of several factors, of numbers, of several labels a row."""
