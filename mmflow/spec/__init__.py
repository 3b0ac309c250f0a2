"""The language: from YAML text to a checked, resolved spec."""
