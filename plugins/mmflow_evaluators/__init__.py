"""First-party mmflow components."""
