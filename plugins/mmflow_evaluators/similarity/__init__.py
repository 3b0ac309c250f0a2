"""How alike two representations of the same rows are, and how a representation fills its space."""
