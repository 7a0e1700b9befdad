"""Signatures before and after: whether an act would count before anybody signs it, and whether one that counted still does.

Invariant: a key that was replaced by its owner in the ordinary way keeps what it signed; one that was revoked, or whose owner had
to be recovered, or that ended by an entry nobody can read, takes with it what it signed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.signing.drafts import next_entry
from cognify_dagster.governance.signing.statements import act_predicate
from cognify_dagster.records import Envelope, PersonEnrolled, Record
from cognify_dagster.workspace import Reading, Recorded

R = TypeVar("R", bound=Record)
NO_ROLE = "a role that acts (the auditor's looks on)"


def signature_ended(reading: Reading, people: Directory, envelope: Envelope) -> str | None:
    """Say why a signature that was valid when given counts no more, or None.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        envelope: a signature that verified.
    """
    said = act_predicate(envelope)
    person, key_id = str(said["person"]), str(said["key_id"])
    spans = [span for span in people.keys.get(person, ()) if span.key.key_id == key_id]
    if not spans:
        return f"the key {key_id} of {people.name(person)} is not known"
    until = spans[-1].until
    if until is None or until >= reading.size:
        return None
    ending = reading.at(until)
    if ending is not None and isinstance(ending.record, PersonEnrolled):
        return None
    return f"the key {key_id} of {people.name(person)} was revoked by entry {until}"


def before_signing(
    judge: Callable[[Reading, Recorded[R]], str | None],
) -> Callable[[Reading, R, Sequence[str]], str | None]:
    """Return the check of an act before anybody signed it, so that nobody signs in vain.

    The judge is asked about the act without signatures. That these are missing is no answer, but tells how many are needed.
    """

    def check(reading: Reading, record: R, signers: Sequence[str]) -> str | None:
        problem = judge(reading, next_entry(reading, record))
        if problem is None or problem.startswith("the statement is malformed"):
            return None
        unsigned = re.fullmatch(r"it is signed by 0 people with one of the roles (.*); ([0-9]+) are needed", problem)
        if unsigned is None:
            return problem
        roles, needed = unsigned[1], int(unsigned[2])
        if len(set(signers)) >= needed:
            return None
        each = ", ".join(dict.fromkeys(roles.split(", ")))
        return f"this needs the signatures of {needed} different people, each with one of the roles {each}"

    return check
