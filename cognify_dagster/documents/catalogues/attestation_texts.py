"""The texts that people attest: shipped ones and the organisation's own, each a Markdown file with front matter.

Invariants: a file is read up to a size limit as strict data and literal text; what is signed is the text itself, which the ledger
keeps whole, so a changed template changes nothing that was attested before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.section_files import MAX_FRONT_MATTER, read_text_file, split_front_matter
from cognify_dagster.documents.frameworks.loading import template_root
from cognify_dagster.records import MAX_TEXT_BYTES, SECTION_PATTERN, text_problem


class _FrontMatter(BaseModel):
    """How a text is meant to be used. A text without these fields may be attested by any role, about anything."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: StrictStr = ""
    version: StrictStr = ""
    roles: tuple[StrictStr, ...] = ()
    about: tuple[Literal["model", "version", "dataset"], ...] = ()
    party: Literal["required", "optional", "none"] = "optional"
    max_days: int | None = Field(None, ge=1, le=36_525)
    note: StrictStr = ""


@dataclass(frozen=True)
class AttestationText:
    """A text to attest.

    Attributes:
        roles: one of these attests it; any acting role where none is named.
        about: what it may be about: `model`, `version`, `dataset`; anything where none is named.
        party: whether it names another side, such as a vendor.
        max_days: for how many days it may be attested at most.
    """

    text_id: str
    text: str
    title: str
    version: str
    roles: tuple[str, ...]
    about: tuple[str, ...]
    party: str
    max_days: int | None
    note: str

    def problem(self, about: str, party: str, days: float | None) -> str | None:
        """Say why it cannot be attested so, or None.

        Args:
            about: `model/KEY`, `model/KEY@VERSION` or `dataset/NAME`.
            party: the other side, empty if none is named.
            days: for how long it is attested; None without end.
        """
        kind = "dataset" if about.startswith("dataset/") else "version" if "@" in about else "model"
        if self.about and kind not in self.about:
            return f"{self.text_id} is about a {' or a '.join(self.about)}, not about {about}"
        if self.party == "required" and not party:
            return f"{self.text_id} names another side: say who it is (--party)"
        if self.party == "none" and party:
            return f"{self.text_id} names no other side; leave --party out"
        if self.max_days is not None and (days is None or days > self.max_days):
            return f"{self.text_id} is attested for at most {self.max_days} days; choose an earlier end"
        return None


def text_ids(folder: Path | None = None) -> list[str]:
    """Return the ids of all texts: shipped ones, and those of a folder."""
    return sorted({path.stem for root in _roots(folder) for path in root.glob("*.md") if _named(path)})


def load_text(text_id: str, folder: Path | None = None) -> AttestationText:
    """Load a text by id: from `folder` (files `<id>.md`) if it has it, else the shipped one.

    Raises:
        DocumentError: if there is none, or it is wrong; the message names the file and the field.
    """
    if re.fullmatch(SECTION_PATTERN, text_id) is not None:
        for root in _roots(folder):
            path = root / f"{text_id}.md"
            if path.is_file():
                return read_attestation_text(path, text_id)
    known = ", ".join(text_ids(folder))
    raise DocumentError(f"there is no text {text_id[:80]!r} to attest; known: {known}; or give your own with --text")


def read_attestation_text(path: Path, text_id: str) -> AttestationText:
    """Read a text from a file; its front matter may be left out.

    Raises:
        DocumentError: naming the file and the field.
    """
    text = read_text_file(path, path.parent, MAX_TEXT_BYTES + MAX_FRONT_MATTER)
    front, body = split_front_matter(text, path.name) if text.startswith("---\n") else ({}, text)
    try:
        found = _FrontMatter.model_validate(front)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DocumentError(f"{path.name}: front matter: {where}: {first['msg']}") from None
    body = body.strip("\n").rstrip()
    problem = text_problem(body) if body.strip() else "there is no text to attest"
    if problem:
        raise DocumentError(f"{path.name}: {problem}")
    return AttestationText(
        text_id=text_id,
        text=body,
        title=found.title or text_id.replace("_", " "),
        version=found.version,
        roles=found.roles,
        about=found.about,
        party=found.party,
        max_days=found.max_days,
        note=found.note,
    )


def _roots(folder: Path | None) -> Sequence[Path]:
    return [*([folder] if folder is not None else []), template_root() / "attestations"]


def _named(path: Path) -> bool:
    return re.fullmatch(SECTION_PATTERN, path.stem) is not None
