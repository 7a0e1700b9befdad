"""What a snapshot from the command line is checked against, and the code that made the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.output import clean

if TYPE_CHECKING:
    from cognify_dagster.datasets import Snapshot
    from cognify_dagster.datasets.expectations import SchemaExpectation
    from cognify_dagster.records import CodeRef, QualityCheck
    from cognify_dagster.workspace import Workspace

MAX_EXPECTATION_BYTES = 1_000_000


def wanted_checks(
    workspace: Workspace, name: str, expect: Path | None, same_schema: bool
) -> tuple[SchemaExpectation, ...]:
    """The checks that options ask for, before anything is read.

    Raises:
        Failure: the file is no expectation, or there is no earlier snapshot of a table.
    """
    from cognify_dagster.datasets import DatasetError
    from cognify_dagster.datasets.expectations import expectation_from, expectation_of
    from cognify_dagster.records import DatasetSnapshot
    from cognify_dagster.records.strict_yaml import YamlError, load_yaml, read_small_text

    found = []
    if expect is not None:
        try:
            value = load_yaml(read_small_text(expect, MAX_EXPECTATION_BYTES, "an expectation", YamlError))
            found.append(expectation_of(value, str(expect)))
        except (YamlError, DatasetError) as error:
            text = clean(error)
            raise Failure(text if text.startswith(str(expect)) else f"{expect}: {text}", UNREADABLE) from None
    if same_schema:
        held = [item for item in workspace.read().all(DatasetSnapshot, f"dataset/{name}") if item.record.name == name]
        schema = held[-1].record.header.get("schema") if held else None
        if not schema:
            raise Failure(
                f"--same-schema: there is no earlier snapshot of {name} with a table to compare with", UNREADABLE
            )
        found.append(expectation_from(schema))
    return tuple(found)


def carry_out(checks: tuple[SchemaExpectation, ...], place: str, taken: Snapshot) -> tuple[QualityCheck, ...]:
    """Look at the data that the snapshot was taken of. The data is read once more, and only if there are checks."""
    from cognify_dagster.datasets import read_table
    from cognify_dagster.datasets.quality import run_quality

    if not checks:
        return ()
    return run_quality(
        checks,
        lambda: read_table(place, ignore=taken.header["params"]["ignore"]),
        personal=taken.provenance.personal,
    )


def code_of(folder: Path | None) -> CodeRef | None:
    """The state of the repository that holds the code, None where no folder was given."""
    from cognify_dagster.training import capture_code
    from cognify_dagster.training.recording import code_ref

    return None if folder is None else code_ref(capture_code(folder))
