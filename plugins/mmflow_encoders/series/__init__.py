"""Encoders of series and of sounds as spectrograms."""
