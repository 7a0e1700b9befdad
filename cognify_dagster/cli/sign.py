"""`cognify sign`: here, or in three steps with the key on another machine (`sign_away`)."""

from __future__ import annotations

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
    open_workspace,
    signature_options,
)
from cognify_dagster.cli.output import say, trial_banner
from cognify_dagster.cli.sign_away import export, import_signed, sign_elsewhere
from cognify_dagster.cli.sign_choice import CONDITIONS, choice_of, condition_options, decision_of
from cognify_dagster.cli.signing import ask, authority_lines, document_path, print_receipt, unlocked, viewed
from cognify_dagster.cli.statement import WORDS, dated, document_of, fetch, now, show, show_package

if TYPE_CHECKING:
    from cognify_dagster.workspace import Workspace

_DECISIONS = [word.replace("_", "-") for word in WORDS]


@click.command(cls=Command, name="sign")
@click.argument("model", type=MODEL, required=False)
@click.argument("version", type=VERSION, required=False)
@click.option("--key", type=IN_FILE, metavar="FILE", help="Your personal key file.")
@click.option(
    "--decision", type=click.Choice(_DECISIONS), help="By default approve, with conditions where some are given."
)
@click.option(
    "--acknowledge", type=click.IntRange(min=1), metavar="ENTRY", help="Take note of a finding, without approving."
)
@click.option("--stage", help="Stage to sign; by default the first open one of a role you hold.")
@click.option("--comments", default="", help="Why; needed for reject and block.")
@condition_options
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
@click.option(
    "--open",
    "open_",
    is_flag=True,
    help="Open the review copy first. Only then does the statement say that you viewed it.",
)
@click.option(
    "--review-copy",
    type=OUT_FILE,
    metavar="FILE",
    help="The PDF you read; it is checked. Default: MODEL-VERSION-review.pdf here, written by --open if missing.",
)
@signature_options
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Sign off a model version with your personal key.

    Unlocks the key, shows exactly what will be signed and asks. A refused attempt (wrong role, wrong order, a hand in the version) is recorded
    in the ledger and ends with exit code 1. Who has no role of the stage, but a delegation of somebody who has, signs on their behalf.

    \b
    Example:
      cognify sign credit_default 3 --key vera.key.json --open
      cognify sign credit_default 3 --key carl.key.json --decision approve-with-conditions \\
          --condition "Monitor drift monthly; due=2027-01-31"
      cognify sign credit_default 3 --key carl.key.json --use-cap per_day=100 --population region=TW,min_age=18 \\
          --ends 2027-06-30 --remediate-by 2027-01-31 "publish the reason codes"
      cognify sign credit_default 3 --key carl.key.json --acknowledge 57
    With the key on another machine:
      cognify sign credit_default 3 --export todo.json --person person/vera
      cognify sign --statement todo.json --key vera.key.json --out signed.json    (there, with the PDF beside it)
      cognify sign --import signed.json
    """
    modes = [name for name in ("export_to", "statement_path", "import_from") if given[name] is not None]
    if len(modes) > 1:
        raise click.UsageError("use only one of --export, --statement and --import")
    mode = modes[0] if modes else "here"
    _check_options(mode, given)
    if mode == "statement_path":
        sign_elsewhere(given)
        return
    workspace = open_workspace(ctx)
    if mode == "import_from":
        import_signed(workspace, given)
    elif mode == "export_to":
        export(workspace, given, lambda reading: choice_of(reading, given["person"], given))
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
            shown = name.upper() if name in ("model", "version") else f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{shown} has no meaning with {flag}")
    if mode in ("export_to", "import_from") and (given["open_"] or given["review_copy"]):
        raise click.UsageError(f"--open and --review-copy have no meaning with {flag}: nothing is signed in this step")
    if mode not in ("here", "export_to"):
        for name in ("decision", "acknowledge", "stage", *CONDITIONS):
            if given[name]:
                raise click.UsageError(f"what is decided stands in the statement already: export it anew ({name})")
        return
    decision = decision_of(given)
    if decision in ("reject", "block") and not given["comments"]:
        raise click.UsageError(f"say why with --comments; a {decision} without a reason helps nobody")
    if given["entry"] is not None and decision != "withdraw":
        raise click.UsageError("--entry is for --decision withdraw")


def _sign_here(workspace: Workspace, given: dict[str, Any]) -> None:
    from cognify_dagster.governance import GovernanceError, propose, read_public, read_sign_off, seal, submit
    from cognify_dagster.governance.signing.statements import Viewed
    from cognify_dagster.records import Package

    person, public = read_public(given["key"])
    reading = workspace.read()
    choice = choice_of(reading, person, given)
    draft = read_sign_off(propose(reading, given["model"], given["version"], person, public.key_id, choice))
    key = unlocked(given, draft)
    package = reading.at(draft.package.entry_seq)
    if package is None or not isinstance(package.record, Package):
        raise GovernanceError("the package that the statement names cannot be read")
    item = document_of(package.record)
    path = document_path(given, draft, item.media_type)
    if given["open_"] and not path.exists():
        fetch(workspace, package.record, path)
    document = Viewed(digest=item.digest, media_type=item.media_type)
    statement = dated(draft, viewed(given, path, document), now())
    predicate = read_sign_off(statement)
    if not given["json_"]:
        trial_banner(reading.trial)
        show(predicate, statement, strength=key.public.strength)
        for line in authority_lines(reading, predicate):
            say(line)
        show_package(workspace, package.record, path)
    ask(given, predicate, document)
    receipt = submit(workspace, seal(statement, key.key_id, key.sign))
    print_receipt(workspace, predicate, statement, receipt, given["json_"])
