"""Checks framework files as a whole: form, and what `frameworks_lint` finds, against everything that can be loaded beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cognify_dagster.documents.errors import FrameworkError
from cognify_dagster.documents.frameworks.linting import STANDARDS, Problem, problems
from cognify_dagster.documents.frameworks.loading import (
    framework_ids,
    framework_text,
    headings,
    load_framework,
    load_framework_file,
)
from cognify_dagster.documents.frameworks.model import Framework


def check_file(path: Path, folder: Path | None = None) -> tuple[Framework | None, list[Problem]]:
    """Check one framework file.

    Args:
        path: the file.
        folder: the folder of the user's own frameworks, which cross references may name.

    Returns:
        The framework, None where the file cannot be read as one, and everything that is wrong with it.
    """
    try:
        framework = load_framework_file(path)
        cited = headings(framework.id, path.parent)  # the list beside the file, else the shipped one
        raw = framework_text(path)
    except FrameworkError as error:
        return None, [Problem("error", path.stem, str(error).removeprefix(f"{path}: "))]
    return framework, problems(framework, cited, known_references(folder), raw)


def known_references(folder: Path | None = None) -> dict[str, Iterable[str]]:
    """Return what cross references may name: requirement ids by framework, and the listed references of standards.

    A framework that cannot be read has no requirements here, so that a reference to one is found wrong.
    """
    known: dict[str, Iterable[str]] = {}
    for name in framework_ids(folder):
        try:
            known[name] = frozenset(item.id for item in load_framework(name, folder).requirements())
        except FrameworkError:
            known[name] = frozenset()
    for name in sorted(STANDARDS - set(known)):
        listed = headings(name, folder)
        if listed is not None:
            known[name] = frozenset(listed)
    return known
