"""Frameworks: finding, reading and checking the YAML files of regulations, shipped ones and the user's own.

Invariants: paths stay inside the template folders; a file is read up to a size limit and only as data; what it may hold is checked
by `frameworks_model`, and a message about a wrong file names the file, the requirement and the field. The file format is described
in docs/frameworks.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cognify_dagster.documents.errors import FrameworkError
from cognify_dagster.documents.frameworks.conditions import Condition
from cognify_dagster.documents.frameworks.extending import merged
from cognify_dagster.documents.frameworks.model import (
    BASIS_TEXT,
    EvidenceNode,
    FactNeeded,
    Framework,
    ProhibitedBasis,
    Requirement,
    Section,
)
from cognify_dagster.records import YamlError, load_yaml

__all__ = [
    "BASIS_TEXT",
    "Condition",
    "EvidenceNode",
    "FactNeeded",
    "Framework",
    "ProhibitedBasis",
    "Requirement",
    "Section",
    "framework_data",
    "framework_folders",
    "framework_ids",
    "framework_text",
    "headings",
    "load_framework",
    "load_framework_file",
    "parse_framework",
    "template_path",
    "template_root",
]

MAX_FRAMEWORK_BYTES = 1_000_000
MAX_HEADINGS = 5_000

#: Files in a user's folder that are tables of another kind, and no frameworks.
TABLES = frozenset({"objectives", "retention"})


def template_root() -> Path:
    """Return the folder of the shipped templates: inside the installed package, or the repository's own in a checkout.

    Raises:
        FrameworkError: if neither is there.
    """
    package = Path(__file__).resolve().parent.parent.parent
    for root in (package / "_templates", package.parent / "templates"):
        if (root / "frameworks").is_dir():
            return root
    raise FrameworkError(f"no templates beside {package}: the installation is incomplete; install the package again")


def template_path(relative: str, folder: str | Path | None = None) -> Path:
    """Return a template file: the user's own where `folder` has it, else the shipped one.

    Raises:
        FrameworkError: if the path leaves the folder or there is no such file.
    """
    roots = ([Path(folder)] if folder is not None else []) + [template_root()]
    for root in roots:
        path = (root / relative).resolve()
        if not path.is_relative_to(root.resolve()):
            raise FrameworkError(f"{relative!r} leads outside the template folder")
        if path.is_file():
            return path
    raise FrameworkError(f"there is no template {relative!r} in {' or '.join(str(root) for root in roots)}")


def parse_framework(text: str, *, source: str = "framework") -> Framework:
    """Read a framework from YAML text. A text that says `extends` lays itself over that shipped framework.

    Raises:
        FrameworkError: naming the source, the requirement and the field.
    """
    return _validated(framework_data(text, source=source), source)


def framework_data(text: str, *, source: str = "framework") -> dict[str, Any]:
    """Return what a framework file holds as plain data; what it extends is filled in, nothing else is checked yet.

    Raises:
        FrameworkError: naming the source, if it is not YAML, no mapping, or extends what is not there.
    """
    try:
        data = load_yaml(text)
    except YamlError as error:
        raise FrameworkError(f"{source}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise FrameworkError(f"{source}: expected a mapping with the fields of a framework")
    base = data.get("extends")
    if base is None:
        return data
    path = template_root() / "frameworks" / f"{base}.yaml"
    if not isinstance(base, str) or base not in framework_ids():
        known = ", ".join(framework_ids())
        raise FrameworkError(f"{source}: extends: there is no shipped framework {base!r}; known: {known}")
    base_data = framework_data(framework_text(path), source=str(path))
    return merged(data, _validated(base_data, str(path)), base_data, source)


def _validated(data: Mapping[str, Any], source: str) -> Framework:
    try:
        return Framework.model_validate(data)
    except ValidationError as error:
        found = telling(error.errors())
        problems = "; ".join(field_problem(data, item, "the framework") for item in found[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise FrameworkError(f"{source}: {problems}{more}") from None


_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "has to be text; put it in quotes",
    "tuple_type": "has to be a list",
    "model_type": "has to be a mapping with fields",
    "dict_type": "has to be a mapping with fields",
    "bool_type": "has to be true or false",
    "bool_parsing": "has to be true or false",
    "int_type": "has to be a whole number",
    "int_parsing": "has to be a whole number",
    "literal_error": "has to be {expected}",
    "string_pattern_mismatch": "is not spelled as it has to be (pattern {pattern})",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "has more than {max_length} characters",
    "too_short": "needs at least {min_length} items",
}


def telling(errors: Sequence[Any]) -> list[Any]:
    """Return the errors that tell something: a list is not called too short because of items that are wrong themselves."""
    paths = [tuple(error["loc"]) for error in errors]

    def follows(error: Any) -> bool:
        path = tuple(error["loc"])
        return error["type"] == "too_short" and any(len(o) > len(path) and o[: len(path)] == path for o in paths)

    return [error for error in errors if not follows(error)]


def field_problem(data: Mapping[str, Any], error: Any, whole: str) -> str:
    """Say what is wrong with one field of a file that people write, by its path; items of a list are named by their id.

    Args:
        data: what the file holds.
        error: one of pydantic's errors about it.
        whole: what the file is, where the error is about all of it.
    """
    where: list[str] = []
    node: Any = data
    for part in error["loc"]:
        where.append(str(part))
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(part, int) and isinstance(node, dict) and "id" in node:
            where[-1] = f"{part} ({node['id']})"
    message = error["msg"]
    if error["type"] in _MESSAGES:
        message = _MESSAGES[error["type"]].format(**error.get("ctx", {}))
    return f"{'.'.join(where) or whole}: {message.removeprefix('Value error, ')}"


def load_framework(name: str, folder: str | Path | None = None) -> Framework:
    """Load a framework by id: from `folder` (a folder of `<id>.yaml` files) if it has it, else the shipped one.

    Raises:
        FrameworkError: if there is none, or it is wrong; the message names file and field.
    """
    for root in framework_folders(folder):
        path = (root / f"{name}.yaml").resolve()
        if path.is_relative_to(root.resolve()) and path.is_file():
            return load_framework_file(path)
    known = ", ".join(framework_ids(folder))
    raise FrameworkError(f"there is no framework {name!r}; known: {known}")


def load_framework_file(path: Path) -> Framework:
    """Load one framework file; its name has to be `<id>.yaml`. A file that did not change is read once.

    Raises:
        FrameworkError: if it is wrong; the message names file and field.
    """
    text = framework_text(path)  # the bytes decide whether it changed: a clock or an equal size does not
    extends = any(line.startswith("extends:") for line in text.splitlines())  # what it extends may change without it
    framework = parse_framework(text, source=str(path)) if extends else _parsed(text, str(path))
    if framework.id != path.stem:
        raise FrameworkError(f"{path}: id: the file is named {path.stem!r} but says {framework.id!r}")
    return framework


@lru_cache(maxsize=128)
def _parsed(text: str, source: str) -> Framework:
    return parse_framework(text, source=source)


def framework_text(path: Path) -> str:
    """Return the text of a framework file or a list of headings, of limited size.

    Raises:
        FrameworkError: if it cannot be read, is no UTF-8 text or is too large.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FRAMEWORK_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FrameworkError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    if len(raw) > MAX_FRAMEWORK_BYTES:
        raise FrameworkError(f"{path}: larger than {MAX_FRAMEWORK_BYTES} bytes")
    return text


def framework_folders(folder: str | Path | None = None) -> tuple[Path, ...]:
    """Return the folders that frameworks are looked for in, the first that has an id wins: the user's own, then the shipped one.

    Raises:
        FrameworkError: if the user's folder is not there.
    """
    shipped = template_root() / "frameworks"
    if folder is None:
        return (shipped,)
    own = Path(folder)
    if not own.is_dir():
        raise FrameworkError(
            f"{own}: there is no such folder of frameworks; create it or correct the setting `frameworks`"
        )
    return (own, shipped)


def framework_ids(folder: str | Path | None = None) -> list[str]:
    """Return the ids of all frameworks that can be loaded."""
    found = {path.stem for root in framework_folders(folder) for path in root.glob("*.yaml")}
    return sorted(found - TABLES)


def headings(name: str, folder: str | Path | None = None) -> dict[str, str] | None:
    """Return what a framework may cite: reference -> heading, from `headings/<id>.txt`; None where there is no such list.

    The user's own list is looked for in `headings/` inside the folder of frameworks.

    Raises:
        FrameworkError: naming the file and the line that is wrong.
    """
    roots = ([Path(folder) / "headings"] if folder is not None else []) + [template_root() / "headings"]
    path = next((root / f"{name}.txt" for root in roots if (root / f"{name}.txt").is_file()), None)
    if path is None:
        return None
    found: dict[str, str] = {}
    for number, line in enumerate(framework_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        reference, tab, heading = line.partition("\t")
        reference = reference.strip()
        if not tab or not reference or not heading.strip():
            raise FrameworkError(f"{path}, line {number}: expected a reference, a tab and its heading")
        if reference in found:
            raise FrameworkError(f"{path}, line {number}: {reference!r} stands there twice")
        if "; " in reference:
            raise FrameworkError(f'{path}, line {number}: a reference cannot hold "; ", which joins several of them')
        found[reference] = heading.strip()
        if len(found) > MAX_HEADINGS:
            raise FrameworkError(f"{path}: more than {MAX_HEADINGS} references")
    return found
