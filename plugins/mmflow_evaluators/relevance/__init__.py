"""Orders of candidates in which several are right, and some more than others."""
