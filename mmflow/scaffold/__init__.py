"""`mmflow new`: plugins, components and specs that work as they are written, to change."""
