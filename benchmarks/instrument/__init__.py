"""What capture costs: hashing model files, sealing a record, the time inside callbacks; beside baselines of the same run."""

# modules with ROWS, in the order of the table
MODULES: tuple[str, ...] = ("hashing", "sealing", "callback")
