"""`python -m cognify_dagster.cli`."""

from cognify_dagster.cli import main

if __name__ == "__main__":
    main(prog_name="cognify")
