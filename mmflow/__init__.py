"""Declarative training and evaluation of multimodal representation models."""
