"""Sets in which weights stay."""
