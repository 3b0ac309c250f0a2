"""Transforms that choose: among transforms, or among the members of a group."""
