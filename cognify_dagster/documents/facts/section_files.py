"""Sections that people write: Markdown files with front matter, read strictly, kept literal, recorded for one model version.

Invariants: a file is read up to a size limit, inside its folder (no link leads out), as UTF-8 in the Unicode form NFC without control
characters; its Markdown is text to every reader here and is never rendered or executed; front matter is data in which no field is
unknown, and which says whether a program drafted the text; a stated author who is not enrolled is recorded as "not stated"; a
text that stands already is not recorded again.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictBool, StrictStr, ValidationError, field_validator

from cognify_dagster.documents.coverage.people import HUMAN_FIELDS
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import Framework
from cognify_dagster.governance import (
    Directory,
    SectionChange,
    SectionText,
    carry_over,
    directory,
    previous_version,
    sections_of,
    write_sections,
)
from cognify_dagster.records import MAX_TEXT_BYTES, SECTION_PATTERN, YamlError, load_yaml, text_problem
from cognify_dagster.workspace import Workspace

MAX_FRONT_MATTER = 8 * 1024
MAX_FILES = 200
#: Who answers for a section that no framework in scope gives to a role: people who did not build the model.
DEFAULT_ROLES = ("business_owner", "compliance_officer", "model_validator")
_APPLIES = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,79})(?:@([A-Za-z0-9][A-Za-z0-9_.+-]{0,49}))?")


class _FrontMatter(BaseModel):
    """What stands between the two lines `---` at the top of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ai_drafted: StrictBool
    author: StrictStr = ""
    applies_to: tuple[StrictStr, ...] = ()
    declared_unavailable: StrictStr = ""

    @field_validator("applies_to", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("applies_to")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if _APPLIES.fullmatch(item) is None:
                raise ValueError(f"{item[:80]!r} is neither a model key nor MODEL@VERSION")
        return value

    def covers(self, model: str, version: str) -> bool:
        """Whether the file is for this version: for every one of its folder's model, unless it says which."""
        found = [_APPLIES.fullmatch(item) for item in self.applies_to]
        return not found or any(m is not None and m[1] == model and m[2] in (None, version) for m in found)


@dataclass(frozen=True)
class SectionFile:
    """One file as it was read: its text with the front matter. `author` is as the file has it, enrolled or not."""

    section: str
    text: str
    author: str
    ai_drafted: bool
    declared_unavailable: str
    applies_to: tuple[str, ...]
    path: Path

    def covers(self, model: str, version: str) -> bool:
        """Whether it is for this version."""
        front = _FrontMatter(ai_drafted=self.ai_drafted, applies_to=self.applies_to)
        return front.covers(model, version)


@dataclass(frozen=True)
class SyncResult:
    """What a synchronisation did.

    Attributes:
        changes: one for each file that is for the version, and each text carried over.
        skipped: file name -> why the file is not for the version.
        notes: what somebody should look at, such as an author who is not enrolled.
        not_in_folder: sections recorded for the version that have no file in the folder; they stay.
    """

    changes: tuple[SectionChange, ...]
    skipped: Mapping[str, str]
    notes: tuple[str, ...]
    not_in_folder: tuple[str, ...]


@dataclass(frozen=True)
class HumanText:
    """What people wrote for a section, and where it stands.

    Attributes:
        text, declared_unavailable: one of them, or both empty where nothing is written.
        seq, leaf: the entry: of the section, else of the model's registration.
        recorded: whether it is a section's own entry (else a field of the registration).
        counts, why: whether the text counts as written by people, and if not, why.
    """

    text: str
    declared_unavailable: str
    author: str
    seq: int
    leaf: str
    recorded: bool
    counts: bool
    why: str = ""


# --- files -----------------------------------------------------------------------------------------------------------


def read_section_file(path: Path, folder: Path) -> SectionFile:
    """Read one file `<section>.md`.

    Raises:
        DocumentError: naming the file, what is wrong with it and what to do.
    """
    section = path.stem
    if re.fullmatch(SECTION_PATTERN, section) is None:
        raise DocumentError(
            f"{path.name}: the file's name is not that of a section; use lower-case letters, digits and underscores, such as "
            "failure_modes.md"
        )
    return parse_section(_read(path, folder, MAX_TEXT_BYTES + MAX_FRONT_MATTER), section, path)


def read_text_file(path: Path, folder: Path, limit: int) -> str:
    """Read a text file in a folder: UTF-8, in the Unicode form NFC, lines ending in a newline.

    Raises:
        DocumentError: if it is a link, too large, or not UTF-8.
    """
    return _decoded(_read(path, folder, limit), path.name)


def _decoded(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))


def _read(path: Path, folder: Path, limit: int) -> bytes:
    try:
        if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
            raise DocumentError(f"{path.name}: a link is not read; put the file itself into the folder")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise DocumentError(f"{path.name}: cannot be read: {error.strerror or error}") from None
    if len(data) > limit:
        raise DocumentError(f"{path.name}: larger than {limit} bytes; this is a text for readers, shorten it")
    return data


def parse_section(data: bytes, section: str, path: Path) -> SectionFile:
    """Read the bytes of a section file.

    Raises:
        DocumentError: naming the file and the field or line.
    """
    name = path.name
    front, body = split_front_matter(_decoded(data, name), name)
    try:
        found = _FrontMatter.model_validate(front)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DocumentError(f"{name}: front matter: {where}: {_said(first)}") from None
    body, reason = body.strip("\n").rstrip(), found.declared_unavailable.strip()
    if not body.strip():
        body = ""
    for part, what in ((body, ""), (reason, "declared_unavailable: "), (found.author, "author: ")):
        problem = text_problem(part)
        if problem:
            raise DocumentError(f"{name}: {what}{problem}")
    if bool(body) == bool(reason):
        raise DocumentError(
            f"{name}: it has a text and says declared_unavailable; keep one of them"
            if body
            else f"{name}: it has no text; write it, or say why there is none with declared_unavailable in the front matter"
        )
    return SectionFile(section, body, found.author.strip(), found.ai_drafted, reason, found.applies_to, path)


def _said(error: Any) -> str:
    known = {
        "missing": "is required (true or false: whether a program drafted the text)",
        "extra_forbidden": "is not a known field; known: ai_drafted, author, applies_to, declared_unavailable",
    }
    return known.get(error["type"], str(error["msg"]).removeprefix("Value error, "))


def split_front_matter(text: str, name: str) -> tuple[dict[str, Any], str]:
    """Part the front matter of a text from its body.

    Raises:
        DocumentError: if there is none, or it is no YAML mapping; `name` names the file.
    """
    lines = text.split("\n")
    ends = [number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"]
    if lines[0].rstrip() != "---" or not ends:
        raise DocumentError(
            f"{name}: it does not begin with front matter; begin with the lines ---, ai_drafted: false, ---"
        )
    source = "\n".join(lines[1 : ends[0]])
    if len(source.encode("utf-8")) > MAX_FRONT_MATTER:
        raise DocumentError(f"{name}: the front matter is larger than {MAX_FRONT_MATTER} bytes")
    try:
        front = load_yaml(source)
    except YamlError as error:
        raise DocumentError(f"{name}: the front matter is not readable as YAML: {error}") from None
    if not isinstance(front, dict):
        raise DocumentError(f"{name}: the front matter is not a mapping of fields; it needs at least ai_drafted: false")
    return front, "\n".join(lines[ends[0] + 1 :])


def read_section_folder(folder: Path) -> list[SectionFile]:
    """Read every `*.md` of a folder but README.md, in order of name; subfolders are not looked into.

    Raises:
        DocumentError: if it is no folder, holds too many files, or one of them is wrong. Nothing is returned then.
    """
    if not folder.is_dir():
        raise DocumentError(
            f"{folder}: there is no such folder; sections are files such as {folder.name}/intended_use.md"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".md" and path.name.lower() != "readme.md")
    if len(paths) > MAX_FILES:
        raise DocumentError(f"{folder}: {len(paths)} files; the limit is {MAX_FILES}")
    return [read_section_file(path, folder) for path in paths]


# --- recording -------------------------------------------------------------------------------------------------------


def sync_sections(
    workspace: Workspace,
    model: str,
    version: str,
    folder: Path | None,
    *,
    carry: bool = False,
    source: str | None = None,
    ahead: bool = False,
) -> SyncResult:
    """Record the texts of a folder for a version; what stands already writes nothing, so doing it again changes nothing.

    Args:
        workspace: where.
        model: model key.
        version: version id.
        folder: the folder of Markdown files; None to carry over only.
        carry: whether sections that have no text yet get the newest one of an earlier version.
        source: the version these come from; the one opened before this, unless given.
        ahead: whether the version need not have been opened yet.

    Raises:
        DocumentError: if a file is wrong; nothing is recorded then.
        GovernanceError: if the version is unknown.
    """
    files = read_section_folder(folder) if folder is not None else []
    people = directory(workspace.read())
    notes: list[str] = []
    skipped = {
        item.path.name: f"it applies to {', '.join(item.applies_to)}"
        for item in files
        if not item.covers(model, version)
    }
    texts = [_text(item, people, workspace.home, notes) for item in files if item.covers(model, version)]
    changes = write_sections(workspace, model, version, texts, ahead=ahead)
    if carry and (source or previous_version(workspace.read(), model, version)):
        changes += carry_over(workspace, model, version, source=source, ahead=ahead)
    elif carry:
        notes.append(f"no earlier version of {model} has sections that could be carried over")
    held = sections_of(workspace.read(), people, model, version).items
    names = {item.section for item in texts}
    absent = tuple(sorted(set(held) - names)) if folder is not None else ()
    return SyncResult(tuple(changes), skipped, tuple(notes), absent)


def _text(item: SectionFile, people: Directory, home: Path, notes: list[str]) -> SectionText:
    author: str | None = None
    if item.author:
        found, _ = people.resolve([item.author])
        author = found[0] if found and found[0].startswith("person/") else None
        if author is None:
            notes.append(f"{item.path.name}: the author {item.author!r} is not enrolled; recorded as not stated")
    return SectionText(
        section=item.section,
        text=item.text,
        author=author,
        ai_drafted=item.ai_drafted,
        declared_unavailable=item.declared_unavailable,
        source=_source(item.path, home),
    )


def _source(path: Path, home: Path) -> str:
    """The path in the project; outside of it, folder and file only, so that nothing of this machine gets into the ledger."""
    project, full = home.resolve().parent, path.resolve()
    shown = full.relative_to(project) if full.is_relative_to(project) else Path(full.parent.name) / full.name
    return shown.as_posix()[-500:]


# --- reading ---------------------------------------------------------------------------------------------------------


def human_text(
    facts: VersionFacts, section: str, *, roles: Iterable[str] = (), framework: str = ""
) -> HumanText | None:
    """Return what people wrote for a section: its own entry for this version, else what the model's registration says.

    Args:
        facts: what the ledger says.
        section: name of the section.
        roles: one of these has to answer for a text that a program drafted; any role unless given.
        framework: id of the framework whose facts are asked first.
    """
    found = facts.sections.get(section)
    if found is not None:
        counts = found.counts_for(roles)
        why = "" if counts else _not_signed(found.approved, roles)
        return HumanText(found.text, found.declared_unavailable, found.author, found.seq, found.leaf, True, counts, why)
    if facts.registered is None:
        return None
    record = facts.registered.record
    value: Any = getattr(record, section) if section in HUMAN_FIELDS else _stated(facts, section, framework)
    author, unavailable = "", ""
    if isinstance(value, Mapping):
        author, unavailable = str(value.get("author", "")), str(value.get("declared_unavailable", ""))
        value = value.get("text", "")
    text = value if isinstance(value, str) else ""
    return HumanText(text, unavailable, author, facts.registered.seq, facts.registered.leaf, False, bool(text.strip()))


def _not_signed(approved: bool, roles: Iterable[str]) -> str:
    who = " or ".join(sorted(set(roles))).replace("_", " ")
    if approved:
        return f"a program drafted it, and nobody who signed it is {who}"
    return f"a program drafted it, and nobody{f' ({who})' if who else ''} has signed it yet"


def _stated(facts: VersionFacts, section: str, framework: str) -> Any:
    assert facts.registered is not None
    record, stated = facts.registered.record, dict[str, Any]()
    for key, value in record.framework_facts.items():
        own = isinstance(value, Mapping) and key in record.frameworks
        if not own:
            stated[key] = value
        elif not framework or key == framework:
            stated.update(value)
    return stated.get(section, "")


def section_roles(section: str, frameworks: Iterable[Framework], known: Iterable[str]) -> tuple[str, ...]:
    """Return the roles that answer for a section: those that the frameworks name for it, else `DEFAULT_ROLES`.

    `known` are the roles of the policy; what a framework calls by another name ("model owner") is no role that signs.
    """
    named = {
        leaf.role
        for framework in frameworks
        for item in framework.requirements()
        for leaf in item.evidence.leaves()
        if leaf.section == section and leaf.role
    }
    return tuple(sorted(named & set(known))) or DEFAULT_ROLES


def section_diff(before: str, after: str, *, old: str, new: str) -> list[str]:
    """Return the lines of a unified diff between two texts; empty where they are equal."""
    lines = difflib.unified_diff(before.split("\n"), after.split("\n"), old, new, lineterm="")
    return list(lines)
