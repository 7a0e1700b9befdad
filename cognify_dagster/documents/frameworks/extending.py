"""A user's framework file that extends a shipped one: what it adds and what it replaces, by id.

Invariants: nothing of the extended framework is left out, only replaced by something of the same id or added to; what was replaced
and added is written into the notes, so that every document shows it; the result is checked like any other framework file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cognify_dagster.documents.errors import FrameworkError
from cognify_dagster.documents.frameworks.model import Framework

#: Lists that are merged by the member named here. `notes` and `sources` are added to; everything else replaces.
_BY_MEMBER = {"facts": "name", "prohibited_bases": "basis", "retention": "id"}
_ADDED = ("notes", "sources", "supersedes")
_OWN = ("id", "version")


def merged(data: Mapping[str, Any], base: Framework, base_data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the data of a framework file with `extends` laid over the framework that it extends.

    Args:
        data: the user's file.
        base: the framework it extends, for its name and version.
        base_data: the data of that framework's file.
        source: name of the user's file, for messages.

    Raises:
        FrameworkError: naming the file and the field.
    """
    for name in _OWN:
        if not data.get(name):
            raise FrameworkError(
                f"{source}: {name}: is required in a file that extends another, so that the two can be told apart"
            )
    result = dict(base_data)
    for name, value in data.items():
        if name == "extends":
            continue
        if name in _BY_MEMBER:
            member = _BY_MEMBER[name]
            result[name] = _by_member(result.get(name, []), _items(value, name, source), member)[0]
        elif name in _ADDED:
            result[name] = [*result.get(name, []), *_items(value, name, source, plain=True)]
        elif name != "sections":
            result[name] = value
    result["sections"], replaced, added = _sections(
        base_data, _items(data.get("sections", []), "sections", source), source
    )
    note = f"Extends {base.id} {base.version}."
    note += f" Replaced here: {', '.join(replaced)}." if replaced else ""
    note += f" Added here: {', '.join(added)}." if added else ""
    result["notes"] = [note, *result.get("notes", [])]
    return result


def _sections(base_data: Mapping[str, Any], changes: list[Any], source: str) -> tuple[list[Any], list[str], list[str]]:
    """Lay sections over sections: a requirement replaces the one of its id wherever that stands, else it joins the section."""
    sections = [dict(item) for item in base_data["sections"]]
    places = {req["id"]: section for section in sections for req in section["requirements"]}
    replaced: list[str] = []
    added: list[str] = []
    for number, change in enumerate(changes):
        known = next((item for item in sections if item["id"] == change.get("id")), None)
        wanted = _items(change.get("requirements", []), f"sections.{number}.requirements", source)
        if known is None:
            known = {**change, "requirements": []}
            sections.append(known)
        else:
            known.update({name: value for name, value in change.items() if name != "requirements"})
        for item in wanted:
            name = str(item.get("id"))
            section = places.get(name, known)
            section["requirements"], old = _by_member(section["requirements"], [item], "id")
            (replaced if old else added).append(name)
            places[name] = section
    return sections, replaced, added


def _by_member(before: list[Any], changes: list[Any], member: str) -> tuple[list[Any], bool]:
    """Replace items of the same id where they stand, append the others; say whether one was replaced."""
    result, replaced = list(before), False
    for change in changes:
        at = next((i for i, item in enumerate(result) if item.get(member) == change.get(member)), None)
        if at is None:
            result.append(change)
        else:
            result[at], replaced = change, True
    return result, replaced


def _items(value: Any, field: str, source: str, *, plain: bool = False) -> list[Any]:
    if not isinstance(value, list) or not (plain or all(isinstance(item, dict) for item in value)):
        raise FrameworkError(f"{source}: {field}: expected a list{'' if plain else ' of mappings'}")
    return value
