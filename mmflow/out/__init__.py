"""Results that leave the run store: models in Python, exported folders, vectors, search, tables of metrics.

`import mmflow` offers the functions of this room; each loads what it needs when it is called.
"""
