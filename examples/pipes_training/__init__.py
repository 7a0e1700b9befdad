"""A model trained by a script in a process of its own, through Dagster Pipes."""
