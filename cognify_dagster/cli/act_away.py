"""`cognify act`: acts of several people, each signing on their own machine; and what commands that start such an act share.

Invariants: who signs is shown the facts that they sign, never a summary from the file; signing reads no workspace; a file is written
whole and never overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import (
    IN_FILE,
    OUT_FILE,
    confirm,
    json_option,
    open_workspace,
    passphrase_option,
    signature_options,
    signers_option,
    unlock,
    unlock_all,
    write_new,
)
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import ActDraft
    from cognify_dagster.ledger import Receipt
    from cognify_dagster.records import Record
    from cognify_dagster.workspace import Reading

F = TypeVar("F", bound=Callable[..., Any])
Make = Callable[["Reading", "tuple[str, ...]"], "Record"]


def act_options(function: F | None = None, *, names: Sequence[str] = ("--as",)) -> Any:
    """Add what every act takes: `--as` for the keys that are here, or `--export` with `--signer` for those that are not.

    Used bare, or called with further names of `--as`.
    """
    return _act_options(function, names) if function is not None else lambda found: _act_options(found, names)


def _act_options(function: F, names: Sequence[str]) -> F:
    function = signature_options(function)
    function = click.option(
        "--signer",
        "signers",
        multiple=True,
        metavar="PERSON",
        help="Who will sign an exported act: person/…, or the id of a recovery key. May be repeated.",
    )(function)
    function = click.option(
        "--export", "export_to", type=OUT_FILE, metavar="FILE", help="Write a draft to be signed on other machines."
    )(function)
    option: F = signers_option(required=False, names=names)(function)
    return option


def carry_out(
    ctx: click.Context,
    make: Make,
    signing: dict[str, Any],
    *,
    title: str,
    rows: Sequence[tuple[str, object]],
    question: str,
    recovery: bool = False,
    more: dict[str, Any] | None = None,
) -> Receipt | None:
    """Sign an act with the keys that are here and append it, or write a draft of it.

    Args:
        ctx: the command's context.
        make: returns the record for a reading and those who sign: person ids, or `recovery:<key id>`.
        signing: the values of `act_options`.
        title: what is shown above the rows.
        rows: what is signed, for people.
        question: what is asked before signing.
        recovery: whether the keys are the founders' recovery keys.
        more: what `--json` prints besides entry and leaf.

    Returns:
        The receipt; None where a draft was written.
    """
    from cognify_dagster.governance import perform_act, propose_act

    keys, export_to, names = signing["key_files"], signing["export_to"], signing["signers"]
    if bool(keys) == bool(export_to) or bool(names) != bool(export_to):
        raise click.UsageError(
            "name the keys that are here with --as, or those who sign elsewhere with --export and --signer"
        )
    workspace = open_workspace(ctx)
    if export_to:
        reading = workspace.read()
        elsewhere = tuple(map(_signer, names))
        draft = propose_act(reading, make(reading, elsewhere), elsewhere)
        write_new(export_to, draft.to_bytes())
        _exported(draft, export_to, signing["json_"], reading.trial)
        return None
    unlocked = unlock_all(keys, signing["passphrase_files"])
    signers = tuple(f"recovery:{key.key_id}" if recovery else key.person for key in unlocked)
    reading = workspace.read()
    propose_act(reading, make(reading, signers), signers)  # refused before anybody is asked
    if not signing["json_"]:
        trial_banner(reading.trial)
        say(title)
        pairs([*rows, ("Signed by", ", ".join(key.person for key in unlocked))])
    confirm(question, signing["yes"])
    receipt = perform_act(workspace, lambda now: make(now, signers), unlocked)
    _print_receipt(receipt, signing["json_"], more)
    return receipt


def _signer(name: str) -> str:
    import re

    if re.fullmatch(r"[0-9a-f]{16}", name):
        return f"recovery:{name}"
    if re.fullmatch(r"person/[a-z0-9][a-z0-9-]{1,60}", name):
        return name
    raise click.UsageError(f"--signer {name[:80]!r}: person/… or the id of a recovery key (16 hex digits) is expected")


def _exported(draft: ActDraft, path: Path, json_: bool, trial: bool) -> None:
    if json_:
        as_json({"draft": str(path), "kind": draft.kind, "signatories": [str(item) for item in draft.signatories]})
        return
    trial_banner(trial)
    show_draft(draft, f"Draft written to {clean(path)}; nothing is recorded yet.")
    say("Each of them signs where their key is, within 14 days:")
    say(f"  cognify act sign {clean(path.name)} --key YOUR.key.json --out signed.json")
    say("Then, here, with all signed files:  cognify act submit signed.json …")


def _print_receipt(receipt: Receipt, json_: bool, more: dict[str, Any] | None = None) -> None:
    if json_:
        as_json({"entry": receipt.seq, "leaf": receipt.leaf.hex(), "duplicate": receipt.duplicate, **(more or {})})
        return
    say(
        f"{'It stands already, as' if receipt.duplicate else 'Recorded as'} entry {receipt.seq}, leaf {receipt.leaf.hex()}"
    )


def show_draft(draft: ActDraft, title: str) -> None:
    """Print every fact of a draft, and who has signed."""
    heading(title)
    rows: list[tuple[str, object]] = [
        ("Ledger", draft.ledger),
        ("Act", draft.kind),
        ("Meaning", draft.meaning),
        ("Head seen", f"{draft.size} entries, root {draft.root}"),
        ("Prepared", draft.prepared_at),
    ]
    rows += [(name, text) for name, value in sorted(draft.facts.items()) for name, text in _flat(name, value)]
    pairs(rows)
    for item in draft.signatories:
        state = "signed" if str(item) in draft.envelopes else "has not signed yet"
        say(f"  {item}{f' as {item.role}' if item.role and not item.key_id else ''}: {state}")


def _flat(name: str, value: Any) -> list[tuple[str, object]]:
    """One line a value, so that nothing that is signed is left out."""
    if isinstance(value, dict):
        return [line for key, item in sorted(value.items()) for line in _flat(f"{name}.{key}", item)]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [line for number, item in enumerate(value) for line in _flat(f"{name}[{number}]", item)]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)) or "none")]
    return [(name, "none" if value is None or value == "" else value)]


@click.group(cls=Group, name="act")
def command() -> None:
    """Sign acts of several people, each on their own machine.

    A command such as `cognify people enrol --export FILE --signer PERSON …` writes the draft.

    \b
    Example:
      cognify act sign enrol-vera.json --key finn.key.json --out enrol-vera.finn.json
    """


@command.command("show")
@click.argument("file", type=IN_FILE)
@json_option
def show(file: Path, json_: bool) -> None:
    """Show what a draft says and who has signed it. Signatures are verified when it is submitted.

    \b
    Example:
      cognify act show enrol-vera.json
    """
    draft = _read(file)
    if json_:
        as_json({**draft.model_dump(mode="json"), "missing": [str(item) for item in draft.missing()]})
        return
    show_draft(draft, f"{clean(file)} holds this act:")


@command.command("sign")
@click.argument("file", type=IN_FILE)
@click.option("--key", "key_file", type=IN_FILE, required=True, metavar="KEYFILE", help="Your key.")
@click.option("--out", type=OUT_FILE, required=True, metavar="FILE", help="Where to write the signed copy.")
@click.option("--yes", is_flag=True, help="Do not ask before signing (what is signed is still shown).")
@passphrase_option
@json_option
def sign(file: Path, key_file: Path, out: Path, yes: bool, passphrase_files: tuple[Path, ...], json_: bool) -> None:
    """Sign a draft; reads no workspace. Compare ledger and head with what you were told: this machine cannot check them.

    \b
    Example:
      cognify act sign enrol-vera.json --key finn.key.json --out enrol-vera.finn.json
    """
    from cognify_dagster.governance import read_public, sign_draft
    from cognify_dagster.governance.signing.drafts import signatory_for

    draft = _read(file)
    person, public = read_public(key_file)
    signatory_for(draft, person, public.key_id)
    if out.exists():
        raise click.UsageError(f"{out}: there is already a file; it is not overwritten")
    key = unlock(key_file, passphrase_files)
    if not json_:
        show_draft(draft, "You sign this:")
    confirm("Sign this act?", yes)
    signed = sign_draft(draft, key)
    write_new(out, signed.to_bytes())
    missing = [str(item) for item in signed.missing()]
    if json_:
        as_json({"signed": str(out), "missing": missing})
        return
    say(f"Signed copy written to {clean(out)}")
    say(f"Still to sign (this copy or the draft): {', '.join(missing)}" if missing else "All have signed; submit it.")


@command.command("submit")
@click.argument("files", type=IN_FILE, nargs=-1, required=True)
@json_option
@click.pass_context
def submit(ctx: click.Context, files: tuple[Path, ...], json_: bool) -> None:
    """Record an act that all have signed; give all signed copies of it.

    \b
    Example:
      cognify act submit enrol-vera.ada.json enrol-vera.finn.json
    """
    from cognify_dagster.governance import merge_drafts, submit_draft

    draft = merge_drafts([_read(file) for file in files])
    workspace = open_workspace(ctx)
    if not json_:
        show_draft(draft, "This act is recorded:" if not draft.missing() else "This act is not signed by all yet:")
    _print_receipt(submit_draft(workspace, draft), json_)


def _read(file: Path) -> ActDraft:
    from cognify_dagster.governance import read_draft
    from cognify_dagster.governance.signing.drafts import MAX_DRAFT

    with file.open("rb") as stream:
        data = stream.read(MAX_DRAFT + 1)
    if len(data) > MAX_DRAFT:
        raise Failure(f"{file}: larger than {MAX_DRAFT} bytes; this is no draft of an act", UNREADABLE)
    return read_draft(data, str(file))
