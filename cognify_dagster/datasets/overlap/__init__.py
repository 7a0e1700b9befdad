"""Whether records of one dataset also stand in another."""
