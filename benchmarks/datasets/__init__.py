"""How fast snapshots, record digests, differences and overlap are, beside baselines of the same run."""

# modules with ROWS, in the order of the table
MODULES: tuple[str, ...] = ("files", "objects", "overlap", "records", "scale")
