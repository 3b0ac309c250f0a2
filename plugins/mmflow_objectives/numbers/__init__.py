"""Numbers of a batch that losses use."""
