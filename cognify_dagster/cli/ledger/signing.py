"""`cognify ledger checkpoint`, `anchor`, `rotate-key`, `revoke-key`: signed heads and the keys that sign them."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import BLOCKED, ROLLED_BACK, UNPROVEN, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import confirm, json_option, open_workspace, yes_option
from cognify_dagster.cli.ledger.group import command
from cognify_dagster.cli.output import as_json, clean, pairs, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.ledger import LogSigner, VerifierKey
    from cognify_dagster.records import LogKeyRotated
    from cognify_dagster.workspace import Workspace

OVERLAP = 1_000


@command.command("checkpoint")
@json_option
@click.pass_context
def checkpoint(ctx: click.Context, json_: bool) -> None:
    """Sign the present head, after recomputing every entry that is new. Prints the signed note.

    The witnesses of the trust file are asked to cosign it; what became of each is said on stderr.

    \b
    Example:
      cognify ledger checkpoint
    """
    from cognify_dagster.ledger import Tampered

    workspace = open_workspace(ctx)
    ledger = _with_signer(workspace).ledger
    try:
        note = ledger.sign_checkpoint()
    except Tampered as error:
        report = ledger.verify(workspace.trust())
        say(f"Error: nothing was signed: {clean(error)}", err=True)
        finish(int(report.outcome) or 1)
    if json_:
        origin, size, root = note.split("\n")[:3]
        asked = [{"witness": f.witness, "verdict": f.verdict.value, "message": f.message} for f in ledger.witnessing]
        hexed = base64.b64decode(root).hex()
        as_json({"origin": origin, "size": int(size), "root": hexed, "note": note, "witnesses": asked})
    else:
        click.echo(note, nl=False)
        for found in ledger.witnessing:
            say(f"{found.verdict.value}: {clean(found)}", err=True)
    if any(found.alarming for found in ledger.witnessing):
        say("A witness says that it knows another history: run `cognify ledger verify --external`.", err=True)
        finish(ROLLED_BACK)


def _with_signer(workspace: Workspace) -> Workspace:
    """Take the log key that lies here, also where `signer = "external"` keeps other commands from opening it."""
    from cognify_dagster.workspace import open_signer

    if workspace.ledger.signer is None and workspace.config.signer == "external":
        workspace.ledger.signer = open_signer(workspace.config)
    return workspace


@command.command("anchor")
@json_option
@click.pass_context
def anchor(ctx: click.Context, json_: bool) -> None:
    """Put the newest checkpoint where the ledger's owners cannot change it: to every [[anchor]] of cognify.toml.

    The note must be signed by a key of the trust file. Doing it again for the same head is no error. Exit codes: 0 every anchor
    has it, 2 one holds another head of the same size, 4 one could not be reached.

    \b
    Example:
      cognify ledger checkpoint && cognify ledger anchor
    """
    from cognify_dagster.ledger import open_checkpoint
    from cognify_dagster.ledger.anchors import AnchorConflict, AnchorError
    from cognify_dagster.workspace.anchoring import put

    workspace = open_workspace(ctx)
    if not workspace.config.anchors:
        raise Failure(
            f'{workspace.config.path} names no anchor; add a table such as [[anchor]] with kind = "folder", path = "…"',
            UNREADABLE,
        )
    note = workspace.ledger.latest_checkpoint()
    if note is None:
        raise Failure("there is no checkpoint to anchor yet; run `cognify ledger checkpoint` first", UNPROVEN)
    head = open_checkpoint(note, workspace.trust().logs)
    code, done = 0, []
    for item in workspace.config.anchors:
        try:
            receipt = put(workspace.config, item, note)
            done.append({"name": item.name, "kind": receipt.kind, "location": receipt.location, "error": None})
        except AnchorError as error:
            done.append({"name": item.name, "kind": item.kind, "location": None, "error": str(error)})
            code = ROLLED_BACK if isinstance(error, AnchorConflict) or code == ROLLED_BACK else UNPROVEN
    if json_:
        as_json({"origin": head.origin, "size": head.size, "root": head.root.hex(), "anchors": done})
    else:
        say(f"Head of {head.size} entries, root {head.root.hex()}")
        for entry in done:
            state = f"anchored at {entry['location']}" if entry["error"] is None else f"FAILED: {entry['error']}"
            say(f"  {entry['name']} ({entry['kind']}): {clean(state)}")
    finish(code)


@command.command("rotate-key")
@click.option("--reason", default="", help="Why; it stands in the ledger.")
@click.option(
    "--overlap", type=click.IntRange(1), default=OVERLAP, show_default=True,
    help="How many more entries both keys sign; auditors and witnesses get the new key meanwhile.",
)  # fmt: skip
@click.option("--finish", "finishing", is_flag=True, help="End the overlap: the old key is removed for good.")
@click.option("--now", is_flag=True, help="With --finish: although the overlap is not over.")
@yes_option
@json_option
@click.pass_context
def rotate_key(
    ctx: click.Context, reason: str, overlap: int, finishing: bool, now: bool, yes: bool, json_: bool
) -> None:
    """Make a new log key beside the old one; with --finish drop the old one.

    The rotation is recorded in the ledger, signed by the workload, and the new key is added to the workspace's trust file. Until
    --finish every checkpoint carries a signature of both. A call that was cut off is taken up by the next one.

    \b
    Example:
      cognify ledger rotate-key --reason "yearly rotation"
      cognify ledger rotate-key --finish
    """
    workspace = _with_signer(open_workspace(ctx))
    _require_workload(workspace)
    signer = workspace.ledger.signer
    if signer is None:
        raise Failure(
            f"no log key lies in {workspace.config.keys}; run this where `cognify signer run` runs", UNREADABLE
        )
    if finishing:
        value = _finish(workspace, signer, now, yes, json_)
    else:
        value = _rotate(workspace, reason, overlap, yes, json_)
    if json_:
        as_json(value)


def _require_workload(workspace: Workspace) -> None:
    """What is said about log keys is signed by a machine that was enrolled for it."""
    if workspace.writer is None:
        raise Failure(
            f"no workload key lies in {workspace.config.keys}, so nothing could be recorded; admit one with `cognify people "
            "enrol-workload … --kind log_key_rotated --kind log_key_revoked`",
            BLOCKED,
        )


def _rotate(workspace: Workspace, reason: str, overlap: int, yes: bool, json_: bool) -> dict[str, Any]:
    from cognify_dagster.ledger import LogSigner, new_secret
    from cognify_dagster.records import LogKeyRotated
    from cognify_dagster.workspace import idempotency_key
    from cognify_dagster.workspace.workspace import SIGNER_STATE, log_keys

    config = workspace.config
    paths = log_keys(config)
    reading = workspace.read()
    state = config.home / SIGNER_STATE
    done = _rotation(workspace, str(LogSigner(paths, state, workspace.origin).verifier)) if len(paths) > 1 else None
    if done is not None:
        raise Failure(
            f"a rotation is under way since entry {done[0]}; both keys sign. End it with `cognify ledger rotate-key --finish`",
            BLOCKED,
        )
    if not json_:
        trial_banner(reading.trial)
        say(f"A new log key is made beside {clean(paths[0])}; both sign until --finish.")
    confirm("Rotate the log key?", yes)
    if len(paths) == 1:
        number = _number(paths[0]) + 1
        paths.append(config.keys / f"log.{number}.key")
        new_secret(paths[-1])
    signer = LogSigner(paths, state, workspace.origin)
    old, new = str(signer.verifiers[-2]), str(signer.verifiers[-1])
    _add_to_trust(config.trust, signer.verifier)  # before anything is signed with it
    workspace.ledger.signer = signer
    record = LogKeyRotated(old=old, new=new, overlap_until_size=reading.size + 1 + overlap, reason=reason)
    receipt = workspace.append(record, idem=idempotency_key("log_key_rotated", old, new))
    note = workspace.ledger.sign_checkpoint()
    if not json_:
        pairs(
            [
                ("Recorded as", f"entry {receipt.seq}"),
                ("New key", new),
                ("Key file", paths[-1]),
                ("Overlap", f"until the ledger has {record.overlap_until_size} entries"),
            ]
        )
        say(f"Added to {clean(config.trust)}. Give every auditor, and every witness, this line:")
        say(f"  log {new}")
        say("Back the new key up as carefully as the old one. Restart `cognify signer run` and the Dagster processes.")
    return {"entry": receipt.seq, "old": old, "new": new, "overlap_until_size": record.overlap_until_size, "note": note}


def _rotation(workspace: Workspace, new: str) -> tuple[int, LogKeyRotated] | None:
    """The entry about the rotation to a key, if there is one."""
    from cognify_dagster.records import LogKeyRotated

    found = [item for item in workspace.read().all(LogKeyRotated) if item.record.new == new]
    return (found[-1].seq, found[-1].record) if found else None


def _number(path: Path) -> int:
    """Number of a key file: 1 for log.key, n for log.n.key."""
    parts = path.name.split(".")
    return int(parts[1]) if len(parts) == 3 else 1


def _add_to_trust(path: Path, key: VerifierKey) -> None:
    """Add a `log` line behind the others, every other line as it is; nothing if it is there."""
    from cognify_dagster.ledger import TrustFile

    text = path.read_text(encoding="utf-8")
    if any(str(known) == str(key) for known in TrustFile.parse(text).logs):
        return
    lines = text.split("\n")
    last = max(number for number, line in enumerate(lines) if line.startswith("log "))
    lines.insert(last + 1, f"log {key}")
    changed = "\n".join(lines)
    TrustFile.parse(changed)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(changed)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(temporary, path.stat().st_mode & 0o777)
    os.replace(temporary, path)


def _finish(workspace: Workspace, signer: LogSigner, now: bool, yes: bool, json_: bool) -> dict[str, Any]:
    from cognify_dagster.workspace.workspace import log_keys

    paths = log_keys(workspace.config)
    if len(paths) < 2:
        raise Failure("no rotation is under way: only one log key lies here", BLOCKED)
    done = _rotation(workspace, str(signer.verifier))
    if done is None:
        raise Failure("the rotation was cut off before it was recorded; run `cognify ledger rotate-key` again", BLOCKED)
    until, size = done[1].overlap_until_size, workspace.ledger.size()
    if size < until and not now:
        raise Failure(
            f"the overlap lasts until the ledger has {until} entries; it has {size}. Auditors and witnesses without the new key "
            "could not judge later checkpoints. Wait, or add --now",
            BLOCKED,
        )
    if not json_:
        say(f"These keys are removed for good: {', '.join(str(path) for path in paths[:-1])}")
    confirm("Remove them?", yes)
    note = workspace.ledger.sign_checkpoint()  # the last one that both sign
    for path in paths[:-1]:
        path.unlink()
    if not json_:
        say(
            f"From now on only {clean(paths[-1])} signs. Its `log` line stays in trust files, and the old ones too: older"
        )
        say("checkpoints carry the old signature. Destroy backups of the old key.")
    return {"removed": [str(path) for path in paths[:-1]], "signs": str(signer.verifier), "note": note}


@command.command("revoke-key")
@click.argument("key", metavar="VKEY")
@click.option(
    "--last-good-size", type=click.IntRange(0), required=True, metavar="N", help="Heads of more entries count no more."
)
@click.option("--reason", required=True, help="What happened; it stands in the ledger.")
@yes_option
@json_option
@click.pass_context
def revoke_key(ctx: click.Context, key: str, last_good_size: int, reason: str, yes: bool, json_: bool) -> None:
    """Record that a log key was stolen or lost: its signature counts only for heads of at most N entries.

    VKEY is the key as it stands behind `log` in trust.txt, or the 8 hex digits in it. Heads up to N then count only where
    a witness or an anchor remembers them. Another key must be there to sign: rotate first.

    \b
    Example:
      cognify ledger rotate-key --reason "the log key was copied"
      cognify ledger revoke-key 1a2b3c4d --last-good-size 5120 --reason "the log key was copied"
    """
    from cognify_dagster.records import LogKeyRevoked
    from cognify_dagster.workspace import idempotency_key

    workspace = _with_signer(open_workspace(ctx))
    _require_workload(workspace)
    logs = workspace.trust().logs
    named = [item for item in logs if key in (str(item), item.key_id.hex())]
    if not named:
        raise click.UsageError(f"{key[:80]!r} is no log key of {workspace.config.trust}: {', '.join(map(str, logs))}")
    vkey = str(named[0])
    signer = workspace.ledger.signer
    here = [str(item) for item in signer.verifiers] if signer is not None else [str(item) for item in logs]
    if not [item for item in here if item != vkey]:
        raise Failure("no other log key could sign from here on; run `cognify ledger rotate-key` first", BLOCKED)
    reading = workspace.read()
    if last_good_size > reading.size:
        raise click.UsageError(f"the ledger has {reading.size} entries; --last-good-size is not more")
    if not json_:
        trial_banner(reading.trial)
        pairs([("Key", vkey), ("Counts for", f"heads of at most {last_good_size} entries"), ("Reason", reason)])
    confirm("Revoke this log key? It cannot be taken back.", yes)
    record = LogKeyRevoked(vkey=vkey, last_good_size=last_good_size, reason=reason)
    receipt = workspace.append(record, idem=idempotency_key("log_key_revoked", vkey, last_good_size), checkpoint=True)
    if json_:
        as_json({"entry": receipt.seq, "vkey": vkey, "last_good_size": last_good_size})
        return
    say(
        f"Recorded as entry {receipt.seq}. Drop the key with `cognify ledger rotate-key --finish --now`, and tell every auditor."
    )
