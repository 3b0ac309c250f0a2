"""Shared by the packages of other libraries: model folders, and the one way to load from them without running code."""
