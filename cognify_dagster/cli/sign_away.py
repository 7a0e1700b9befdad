"""Signing with the key on another machine: export a statement, sign it there without a workspace, submit it here.

Invariant: the statement is dated when it is signed, not when it was prepared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import program, read_envelope, write_new
from cognify_dagster.cli.output import as_json, clean, pairs, say, trial_banner
from cognify_dagster.cli.signing import ask, authority_lines, document_path, print_receipt, unlocked, viewed
from cognify_dagster.cli.statement import (
    check_document,
    count_text,
    dated,
    document_name,
    findings_of,
    now,
    read_statement_file,
    show,
    statement_file,
)

if TYPE_CHECKING:
    from cognify_dagster.governance import Choice
    from cognify_dagster.governance.signing.statements import Viewed
    from cognify_dagster.workspace import Reading, Workspace


def export(workspace: Workspace, given: dict[str, Any], choose: Callable[[Reading], Choice]) -> None:
    """Write an unsigned statement to a file."""
    from cognify_dagster.governance import GovernanceError, directory, propose, read_sign_off

    reading = workspace.read()
    people = directory(reading)
    person, key_id = given["person"], given["key_id"]
    valid = [span.key.key_id for span in people.keys.get(person, ()) if span.valid_at(reading.size)]
    if people.person_at(person, reading.size) is None:
        raise GovernanceError(f"{person} is not enrolled in this workspace; see `cognify people list`")
    if key_id is None:
        if len(valid) != 1:
            raise GovernanceError(f"{person} has {len(valid)} valid keys; name one with --key-id")
        key_id = valid[0]
    elif key_id not in valid:
        raise GovernanceError(f"{person} has no valid key {key_id}; see `cognify people list`")
    statement = propose(reading, given["model"], given["version"], person, key_id, choose(reading))
    predicate = read_sign_off(statement)
    findings = findings_of(workspace, predicate.package.digest)
    write_new(given["export_to"], statement_file(reading.origin, statement, predicate, findings))
    document = predicate.viewed
    name = document_name(predicate.model, predicate.version, document.media_type if document else "")
    if given["json_"]:
        as_json(
            {
                "statement": str(given["export_to"]),
                "prepared_at": predicate.signed_at,
                "findings": findings,
                "document": {"name": name, "digest": document.digest} if document else None,
            }
        )
        return
    trial_banner(reading.trial)
    show(predicate, statement, title=f"Unsigned statement written to {clean(given['export_to'])}:", draft=True)
    for line in authority_lines(reading, predicate):
        say(line)
    pairs([("Findings", count_text(findings))])
    if document is not None:
        say("Take the document along; who signs has to read it:")
        say(f"  {program(workspace)} evidence get {document.digest} -o {name}")
    say("Sign where the key is, within 14 days:")
    say(f"  cognify sign --statement {clean(given['export_to'].name)} --key YOUR.key.json --out signed.json --open")


def sign_elsewhere(given: dict[str, Any]) -> None:
    """Sign an exported statement; reads no workspace."""
    from cognify_dagster.governance import GovernanceError, read_public, read_sign_off, seal

    exported = read_statement_file(given["statement_path"])
    draft = read_sign_off(exported.statement)
    person, public = read_public(given["key"])
    if (person, public.key_id) != (draft.person, draft.key_id):
        raise GovernanceError(
            f"the statement is for {draft.person} with key {draft.key_id}; "
            f"{given['key']} holds key {public.key_id} of {person}"
        )
    document = draft.viewed
    if document is None:
        raise Failure(
            f"{given['statement_path']}: the statement names no document to read; export it again", UNREADABLE
        )
    if given["out"].exists():
        raise click.UsageError(f"{given['out']}: there is already a file; it is not overwritten")
    dated(draft, None, now())  # refused before anybody types a pass phrase
    key = unlocked(given, draft)
    path = document_path(given, draft, document.media_type)
    if path.is_file():
        check_document(path, document.digest)
    statement = dated(draft, viewed(given, path, document), now())
    predicate = read_sign_off(statement)
    if not given["json_"]:
        show(predicate, statement, strength=public.strength)
        _show_elsewhere(path, document, exported.findings)
    ask(given, predicate, document)
    envelope = seal(statement, key.key_id, key.sign)
    write_new(given["out"], envelope.model_dump_json(indent=2).encode() + b"\n")
    digest = hashlib.sha256(statement).hexdigest()
    if given["json_"]:
        as_json({"envelope": str(given["out"]), "statement_sha256": digest})
        return
    say(f"Signed envelope written to {clean(given['out'])}; statement sha256 {digest}")
    say(f"Submit it within 14 days, where the workspace is: cognify sign --import {clean(given['out'].name)}")


def _show_elsewhere(path: Path, document: Viewed, findings: dict[str, int] | None) -> None:
    rows: list[tuple[str, object]] = [
        ("Findings", f"{count_text(findings)}; the exported file says so, it is not part of what you sign"),
        ("Document", f"{document.digest} ({document.media_type})"),
    ]
    if path.is_file():
        rows.append(("To read it", f"{path.resolve()} (its SHA-256 is right)"))
    else:
        rows.append(
            ("To read it", f"bring {path.name} from where the statement was exported; --open checks and opens it")
        )
    say("Before you sign:")
    pairs(rows)
    say("Compare package and ledger root with what you were shown: this machine cannot check them.")


def import_signed(workspace: Workspace, given: dict[str, Any]) -> None:
    from cognify_dagster.governance import read_sign_off, submit
    from cognify_dagster.governance.signing.statements import envelope_statement

    envelope = read_envelope(given["import_from"])
    statement = envelope_statement(envelope)
    predicate = read_sign_off(statement)
    if not given["json_"]:
        show(predicate, statement, title="This signed statement is submitted:")
    receipt = submit(workspace, envelope)
    print_receipt(workspace, predicate, statement, receipt, given["json_"])
