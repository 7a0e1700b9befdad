"""Examples, each a Dagster code location of its own."""
