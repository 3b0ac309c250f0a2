"""Whether rows that lie together belong together."""
