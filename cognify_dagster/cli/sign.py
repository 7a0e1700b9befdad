"""`cognify sign`: here, or in three steps with the key on another machine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import (
    IN_FILE,
    KEY_ID,
    MODEL,
    OUT_FILE,
    PERSON,
    TARGET,
    TIME,
    VERSION,
    confirm,
    json_option,
    open_workspace,
    parse_time,
    passphrase_option,
    read_envelope,
    unlock,
    write_new,
    yes_option,
)
from cognify_dagster.cli.output import as_json, clean, pairs, say, trial_banner
from cognify_dagster.cli.statement import WORDS, read_statement_file, show, show_package, statement_file

if TYPE_CHECKING:
    from cognify_dagster.governance import Choice, Condition, EntryRef, SignOffPredicate
    from cognify_dagster.ledger import Receipt
    from cognify_dagster.workspace import Reading, Workspace

_DECISIONS = [word.replace("_", "-") for word in WORDS]


@click.command(cls=Command, name="sign")
@click.argument("model", type=MODEL, required=False)
@click.argument("version", type=VERSION, required=False)
@click.option("--key", type=IN_FILE, metavar="FILE", help="Your personal key file.")
@click.option("--decision", type=click.Choice(_DECISIONS), default="approve", show_default=True)
@click.option("--stage", help="Stage to sign; by default the first open one of a role you hold.")
@click.option("--comments", default="", help="Why; needed for reject and block.")
@click.option("--condition", "conditions", multiple=True, metavar='"TEXT; due=UTC"', help="May be repeated.")
@click.option("--link", "links", multiple=True, help="A link to supporting material. May be repeated.")
@click.option("--target", "targets", multiple=True, type=TARGET, default=("production",), show_default=True)
@click.option("--expires", type=TIME, metavar="UTC", help="When this approval ends, if before the policy's limit.")
@click.option(
    "--entry", type=click.IntRange(min=0), help="With withdraw: entry of the sign-off; by default your newest one."
)
@click.option(
    "--export", "export_to", type=OUT_FILE, metavar="FILE", help="Write the unsigned statement for another machine."
)
@click.option("--person", type=PERSON, help="With --export: who will sign.")
@click.option("--key-id", type=KEY_ID, help="With --export: the key that will sign; needed if the person has several.")
@click.option(
    "--statement",
    "statement_path",
    type=IN_FILE,
    metavar="FILE",
    help="Sign an exported statement; no workspace needed.",
)
@click.option("--out", type=OUT_FILE, metavar="ENVELOPE", help="With --statement: where to write the signed envelope.")
@click.option("--import", "import_from", type=IN_FILE, metavar="ENVELOPE", help="Submit an envelope signed elsewhere.")
@yes_option
@passphrase_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Sign off a model version with your personal key.

    Shows exactly what will be signed and asks. A refused attempt (wrong role, wrong order, a hand in the version) is recorded
    in the ledger and ends with exit code 1.

    \b
    Example:
      cognify sign credit_default 3 --key vera.key.json
      cognify sign credit_default 3 --key carl.key.json --decision approve-with-conditions \\
          --condition "Monitor drift monthly; due=2027-01-31"
    With the key on another machine:
      cognify sign credit_default 3 --export todo.json --person person/vera
      cognify sign --statement todo.json --key vera.key.json --out signed.json    (there)
      cognify sign --import signed.json
    """
    modes = [name for name in ("export_to", "statement_path", "import_from") if given[name] is not None]
    if len(modes) > 1:
        raise click.UsageError("use only one of --export, --statement and --import")
    mode = modes[0] if modes else "here"
    _check_options(mode, given)
    if mode == "statement_path":
        _sign_elsewhere(given)
        return
    workspace = open_workspace(ctx)
    if mode == "import_from":
        _import(workspace, given)
    elif mode == "export_to":
        _export(workspace, given)
    else:
        _sign_here(workspace, given)


def _check_options(mode: str, given: dict[str, Any]) -> None:
    needed = {
        "here": ("model", "version", "key"),
        "export_to": ("model", "version", "person"),
        "statement_path": ("key", "out"),
        "import_from": (),
    }[mode]
    excluded = {
        "here": ("person", "key_id", "out"),
        "export_to": ("key", "out"),
        "statement_path": ("model", "version", "person", "key_id"),
        "import_from": ("model", "version", "key", "person", "key_id", "out"),
    }[mode]
    flag = {"here": "sign", "export_to": "--export", "statement_path": "--statement", "import_from": "--import"}[mode]
    for name in needed:
        if given[name] is None:
            shown = name.upper() if name in ("model", "version") else f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} needs {shown}; see `cognify sign --help`")
    for name in excluded:
        if given[name] is not None:
            raise click.UsageError(f"{name.replace('_', '-')} has no meaning with {flag}")
    if given["decision"] in ("reject", "block") and not given["comments"] and mode in ("here", "export_to"):
        raise click.UsageError(f"say why with --comments; a {given['decision']} without a reason helps nobody")
    if given["entry"] is not None and given["decision"] != "withdraw":
        raise click.UsageError("--entry is for --decision withdraw")


def _sign_here(workspace: Workspace, given: dict[str, Any]) -> None:
    from cognify_dagster.governance import GovernanceError, propose, read_public, read_sign_off, seal, submit
    from cognify_dagster.records import Package

    person, public = read_public(given["key"])
    reading = workspace.read()
    choice = _choice(reading, person, given)
    statement = propose(reading, given["model"], given["version"], person, public.key_id, choice)
    predicate = read_sign_off(statement)
    package = reading.latest(Package, f"model/{given['model']}@{given['version']}")
    if not given["json_"]:
        trial_banner(reading.trial)
        show(predicate, statement)
        if package is not None:
            show_package(workspace, package)
    confirm("Sign this statement?", given["yes"])
    key = unlock(given["key"], given["passphrase_files"])
    if (key.person, key.key_id) != (predicate.person, predicate.key_id):
        raise GovernanceError(f"{given['key']}: the key file changed while you were reading; nothing was signed")
    receipt = submit(workspace, seal(statement, key.key_id, key.sign))
    _receipt(workspace, predicate, statement, receipt, given["json_"])


def _choice(reading: Reading, person: str, given: dict[str, Any]) -> Choice:
    from cognify_dagster.governance import Choice

    decision = given["decision"].replace("-", "_")
    conditions = tuple(_condition(text) for text in given["conditions"])
    if decision == "approve" and conditions:
        raise click.UsageError("conditions belong to --decision approve-with-conditions")
    if decision == "approve_with_conditions" and not conditions:
        raise click.UsageError('name at least one --condition "TEXT; due=UTC"')
    stage, reference = given["stage"], None
    if decision == "withdraw":
        stage, reference = _withdrawn(reading, person, given)
    return Choice(
        decision=decision,
        stage=stage,
        comments=given["comments"],
        conditions=conditions,
        links=tuple(given["links"]),
        targets=tuple(given["targets"]),
        expires=given["expires"],
        reference=reference,
    )


def _condition(text: str) -> Condition:
    from cognify_dagster.governance import Condition

    body, separator, due = text.rpartition(";")
    if separator and due.strip().startswith("due="):
        try:
            when = parse_time(due.strip()[4:])
        except ValueError as error:
            raise click.UsageError(f"--condition {text[:80]!r}: {error}") from error
        body = body.strip()
    else:
        body, when = text.strip(), None
    if not body:
        raise click.UsageError(f"--condition {text[:80]!r} has no text")
    return Condition(text=body, due=when)


def _withdrawn(reading: Reading, person: str, given: dict[str, Any]) -> tuple[str, EntryRef]:
    """Return stage and reference of the sign-off to withdraw."""
    from cognify_dagster.governance import EntryRef
    from cognify_dagster.records import SignOff

    own = [
        item
        for item in reading.all(SignOff, f"model/{given['model']}@{given['version']}")
        if item.record.person == person and item.record.decision != "withdraw"
    ]
    if given["entry"] is not None:
        own = [item for item in own if item.seq == given["entry"]]
    if not own:
        which = f"entry {given['entry']} is no" if given["entry"] is not None else "there is no"
        raise click.UsageError(f"{which} sign-off of {person} for {given['model']} {given['version']}")
    found = own[-1]
    return given["stage"] or found.record.stage, EntryRef(entry_seq=found.seq, entry_leaf=found.leaf)


def _export(workspace: Workspace, given: dict[str, Any]) -> None:
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
    statement = propose(reading, given["model"], given["version"], person, key_id, _choice(reading, person, given))
    predicate = read_sign_off(statement)
    write_new(given["export_to"], statement_file(reading.origin, statement, predicate))
    if given["json_"]:
        as_json({"statement": str(given["export_to"]), "statement_sha256": hashlib.sha256(statement).hexdigest()})
        return
    trial_banner(reading.trial)
    show(predicate, statement, title=f"Unsigned statement written to {clean(given['export_to'])}:")
    say("Sign it where the key is, within 14 days:")
    say(f"  cognify sign --statement {clean(given['export_to'].name)} --key YOUR.key.json --out signed.json")


def _sign_elsewhere(given: dict[str, Any]) -> None:
    """Sign an exported statement; reads no workspace."""
    from cognify_dagster.governance import GovernanceError, read_public, read_sign_off, seal

    statement = read_statement_file(given["statement_path"])
    predicate = read_sign_off(statement)
    person, public = read_public(given["key"])
    if (person, public.key_id) != (predicate.person, predicate.key_id):
        raise GovernanceError(
            f"the statement is for {predicate.person} with key {predicate.key_id}; "
            f"{given['key']} holds key {public.key_id} of {person}"
        )
    if not given["json_"]:
        show(predicate, statement)
        say("Compare package and ledger root with what you were shown: this machine cannot check them.")
    confirm("Sign this statement?", given["yes"])
    key = unlock(given["key"], given["passphrase_files"])
    envelope = seal(statement, key.key_id, key.sign)
    write_new(given["out"], envelope.model_dump_json(indent=2).encode() + b"\n")
    digest = hashlib.sha256(statement).hexdigest()
    if given["json_"]:
        as_json({"envelope": str(given["out"]), "statement_sha256": digest})
        return
    say(f"Signed envelope written to {clean(given['out'])}; statement sha256 {digest}")
    say(f"Submit it where the workspace is: cognify sign --import {clean(given['out'].name)}")


def _import(workspace: Workspace, given: dict[str, Any]) -> None:
    from cognify_dagster.governance import read_sign_off, submit
    from cognify_dagster.governance.statements import envelope_statement

    envelope = read_envelope(given["import_from"])
    statement = envelope_statement(envelope)
    predicate = read_sign_off(statement)
    if not given["json_"]:
        show(predicate, statement, title="This signed statement is submitted:")
    receipt = submit(workspace, envelope)
    _receipt(workspace, predicate, statement, receipt, given["json_"])


def _receipt(
    workspace: Workspace, predicate: SignOffPredicate, statement: bytes, receipt: Receipt, json_: bool
) -> None:
    """Print the receipt; the last lines say what comes next."""
    from datetime import datetime, timezone

    from cognify_dagster.governance import decide

    digest = hashlib.sha256(statement).hexdigest()
    reading = workspace.read()
    target = predicate.target_environments[0] if predicate.target_environments else "production"
    decision = decide(reading, predicate.model, predicate.version, target, datetime.now(timezone.utc))
    if json_:
        as_json(
            {
                "entry": receipt.seq,
                "leaf": receipt.leaf.hex(),
                "statement_sha256": digest,
                "duplicate": receipt.duplicate,
                "decision": predicate.decision,
                "stage": predicate.stage,
                "person": predicate.person,
                "released": decision.released,
                "waiting_for": list(decision.next_stage.waiting_for) if decision.next_stage else [],
                "trial": reading.trial,
            }
        )
        return
    stage = decision.next_stage
    if decision.released:
        after = f"every stage is signed; the approval sensor releases it to {target}"
    elif stage is not None and stage.waiting_for:
        after = f"{stage.stage.title or stage.name} waits for {' or '.join(stage.waiting_for)}"
    else:
        after = decision.reasons[0].text if decision.reasons else "nothing is open"
    already = " (it was submitted before)" if receipt.duplicate else ""
    say()
    say(f"{clean(predicate.printed_name)}: {WORDS[predicate.decision]} is recorded{already}.")
    pairs(
        [
            ("Entry", f"{receipt.seq}, leaf {receipt.leaf.hex()}"),
            ("Statement", f"sha256 {digest}"),
            ("Next", after),
        ]
    )
