"""Identity: hashes that are equal where results are.

`canonical` turns plain data into a key, `source` reads one Python file, `closure` follows the imports of a component,
`files` hashes files that a declaration names, and `keys` joins all of it to the key of a stage. Torch-free.
"""
