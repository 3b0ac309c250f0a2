"""Identity: what makes two results the same, as hashes.

`canonical` turns plain data into a key, `source` reads one Python file, `closure` follows the imports of a component,
`files` hashes what a field of a declaration names, and `keys` joins all of it to the key of a stage. Torch-free.
"""
