"""Coverage checks on what people wrote and attested. Pure.

Invariants: a text counts only from the ledger (a section of the version, else the model's registration), and one that a program
drafted only once a person answers for it by signature; an attestation counts only as governance counts it, about the state that the
version rests on, in the role that is asked for, and not past its date; what is declared unavailable is shown and never counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cognify_dagster.documents.coverage.people import HUMAN_FIELDS, counted_sign_offs, unsigned
from cognify_dagster.documents.coverage.types import Context, EntryRef, Gap, Shown, Status, not_there, ref
from cognify_dagster.documents.facts.human import SectionFact
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import EvidenceNode
from cognify_dagster.documents.labels import section_title, words


def stated_text(facts: VersionFacts, stated: Mapping[str, Any], section: str) -> Any:
    """Return what the registration holds for a section: a field of it, or a value of its framework facts."""
    if facts.registered is not None and section in HUMAN_FIELDS:
        return getattr(facts.registered.record, section)
    value = stated.get(section)
    return value["text"] if isinstance(value, Mapping) and "text" in value else value


def check_human(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer a demand for a text that somebody writes."""
    who = words(leaf.role) or "model owner"
    found = _text(leaf, context, who)
    if isinstance(found, Shown):
        return found
    count, entries = found
    section = _named(leaf.section)
    if count == 0:
        return not_there(f"{section} is not written", f"{who}: write it", "needs_human")
    if count < leaf.min_words:
        return not_there(
            f"{section} has {count} words, fewer than {leaf.min_words}", f"{who}: complete it", "needs_human"
        )
    return Shown(f"section “{section_title(leaf.section)}”, {count} words", entries)


def _text(leaf: EvidenceNode, context: Context, who: str) -> Shown | tuple[int, tuple[EntryRef, ...]]:
    """Return the words of a section and its entries; or the answer, where it is declared unavailable or counts for nobody's."""
    facts = context.facts
    written = facts.sections.get(leaf.section)
    if written is not None:
        return _written(leaf, written, facts, who)
    value = stated_text(facts, context.stated, leaf.section)
    if isinstance(value, Mapping) and value.get("declared_unavailable"):
        return _unavailable(leaf.section, str(value["declared_unavailable"]), who)
    if facts.registered is None or not isinstance(value, str):
        return 0, ()
    return len(value.split()), (ref(facts.registered),)


def _written(
    leaf: EvidenceNode, written: SectionFact, facts: VersionFacts, who: str
) -> Shown | tuple[int, tuple[EntryRef, ...]]:
    roles = [leaf.role] if leaf.role in _roles(facts) else []
    if not written.counts_for(roles):
        return not_there(
            f"{_named(leaf.section)} was drafted by a program and nobody answers for it by signature (entry {written.seq})",
            f"{who}: read it, correct it and sign it",
            "needs_human",
        )
    if written.declared_unavailable:
        return _unavailable(leaf.section, written.declared_unavailable, who)
    signed = tuple(EntryRef(item.seq, item.leaf) for item in written.approvals)
    return len(written.text.split()), (EntryRef(written.seq, written.leaf), *signed)


def _roles(facts: VersionFacts) -> frozenset[str]:
    """The roles that the policy in force knows; who else writes a text is named in words only ("model owner")."""
    roles = facts.policy.body.get("roles") if facts.policy is not None else None
    return frozenset(map(str, roles)) if isinstance(roles, (list, tuple)) else frozenset()


def _named(section: str) -> str:
    """A section by title, with the name under which somebody writes it."""
    return f"section “{section_title(section)}” ({section})"


def _unavailable(section: str, reason: str, who: str) -> Shown:
    return not_there(
        f"{_named(section)} is declared unavailable: {reason}",
        f"{who}: none, unless that changes",
        "declared_unavailable",
    )


def check_attestation(leaf: EvidenceNode, context: Context) -> Shown:
    """The claim is written (where a section is named), and somebody of the role attested it or signed the package that shows it."""
    gaps: list[Gap] = []
    entries: list[EntryRef] = []
    name = words(leaf.role)
    if leaf.section:
        found = _text(leaf, context, name)
        if isinstance(found, Shown):
            return found
        count, named = found
        entries += named
        if count == 0:
            text = f"the claim in {_named(leaf.section)} is not stated"
            gaps.append(Gap("needs_human", text, f"{name}: state it"))
    if leaf.text_id:
        signed = _attested(leaf, context)
        return Shown(signed.text, (*entries, *signed.entries), (*gaps, *signed.gaps))
    sign_offs = [item for item in counted_sign_offs(context.facts) if item.record.role == leaf.role]
    entries += [ref(item) for item in sign_offs]
    if not sign_offs:
        gaps += unsigned(leaf.role, name).gaps
    return Shown(f"attested by the {name}", tuple(entries), tuple(gaps))


def _attested(leaf: EvidenceNode, context: Context) -> Shown:
    """Look for attestations with the text that is asked for; one that counts is enough."""
    name, what = words(leaf.role), f"attestation “{words(leaf.text_id)}” ({leaf.text_id})"
    made = [item for item in context.facts.attestations if item.text_id == leaf.text_id]
    counting = [item for item in made if item.role == leaf.role and item.problem(context.now) is None]
    if counting:
        about = ", ".join(dict.fromkeys(item.about for item in counting))
        entries = tuple(EntryRef(item.seq, item.leaf) for item in counting)
        return Shown(f"{what} by the {name} about {about}", entries)
    who = f"{name}: attest it (`cognify attest`)"
    if not made:
        return not_there(f"{what} by the {name} is not on record", who, "needs_human")
    newest = made[-1]
    entry = (EntryRef(newest.seq, newest.leaf),)
    if newest.role != leaf.role:
        why = f"it was made by the {words(newest.role)}, and the {name} is asked for"
        return Shown("", entry, (Gap("needs_human", f"{what}, entry {newest.seq}, does not count: {why}", who),))
    why = newest.problem(context.now) or ""
    status: Status = "stale" if newest.valid else "needs_human"
    return Shown("", entry, (Gap(status, f"{what}, entry {newest.seq}, does not count: {why}", who),))
