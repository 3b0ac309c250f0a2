"""Rows with random access: of tables, of files that share a name, of data sets."""
