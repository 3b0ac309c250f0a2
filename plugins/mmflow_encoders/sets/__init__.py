"""Encoders of sets: tokens without an order."""
