"""Rows without random access: shards that are read from front to back."""
