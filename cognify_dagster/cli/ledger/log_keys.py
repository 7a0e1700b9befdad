"""`cognify ledger rotate-key`, `revoke-key`, `correct-clock`: acts about log keys and clock, which two workspace admins sign."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure
from cognify_dagster.cli.inputs import (
    confirm,
    open_workspace,
    signature_options,
    signers_option,
    signing_options,
    unlock_all,
)
from cognify_dagster.cli.joint import ask, recorded, unlocked
from cognify_dagster.cli.ledger.group import command
from cognify_dagster.cli.ledger.signing import with_signer
from cognify_dagster.cli.output import as_json, clean, moment, pairs, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import LedgerActs, PersonalKey
    from cognify_dagster.ledger import LogSigner, VerifierKey
    from cognify_dagster.records import LogKeyRotated
    from cognify_dagster.workspace import Reading, Recorded, Workspace

OVERLAP = 1_000


@command.command("rotate-key")
@click.option("--reason", default="", help="Why; it stands in the ledger.")
@click.option(
    "--overlap", type=click.IntRange(1), default=OVERLAP, show_default=True,
    help="How many more entries both keys sign; auditors and witnesses get the new key meanwhile.",
)  # fmt: skip
@click.option("--finish", "finishing", is_flag=True, help="End the overlap: the old key is removed for good.")
@click.option("--now", is_flag=True, help="With --finish: although the overlap is not over.")
@signers_option(required=False)
@signature_options
@click.pass_context
def rotate_key(
    ctx: click.Context,
    reason: str,
    overlap: int,
    finishing: bool,
    now: bool,
    key_files: tuple[Path, ...],
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Make a new log key beside the old one; with --finish drop the old one.

    Two different workspace admins sign the rotation, which is recorded in the ledger (--finish needs no signature), and the new key
    is added to the workspace's trust file. Until --finish every checkpoint carries a signature of both. A call that was cut off is
    taken up by the next one.

    \b
    Example:
      cognify ledger rotate-key --reason "yearly rotation" --as ada.key.json --as finn.key.json
      cognify ledger rotate-key --finish
    """
    if finishing and key_files:
        raise click.UsageError("--finish needs no signature; leave --as out")
    if not finishing and not key_files:
        raise click.UsageError("two workspace admins sign a rotation: name the key of each with --as")
    keys = unlock_all(key_files, passphrase_files)
    workspace = with_signer(open_workspace(ctx))
    signer = workspace.ledger.signer
    if signer is None:
        raise Failure(
            f"no log key lies in {workspace.config.keys}; run this where `cognify signer run` runs", UNREADABLE
        )
    if finishing:
        value = _finish(workspace, signer, now, yes, json_)
    else:
        _require_workload(workspace)
        value = _rotate(workspace, keys, reason, overlap, yes, json_)
    if json_:
        as_json(value)


def _require_workload(workspace: Workspace) -> None:
    """The entry about a log key is also signed by the machine that writes it, which was enrolled for it."""
    if workspace.writer is None:
        raise Failure(
            f"no workload key lies in {workspace.config.keys}, so nothing could be recorded; admit one with `cognify people "
            "enrol-workload … --kind log_key_rotated --kind log_key_revoked --kind clock_floor_corrected`",
            BLOCKED,
        )


def _acts(reading: Reading) -> LedgerActs:
    """Return the acts about log keys that count, and name those that do not."""
    from cognify_dagster.governance import ledger_acts

    found = ledger_acts(reading)
    for seq, text in found.void:
        say(f"Warning: entry {seq} counts for nothing: {clean(text)}", err=True)
    return found


def _rotate(
    workspace: Workspace, keys: Sequence[PersonalKey], reason: str, overlap: int, yes: bool, json_: bool
) -> dict[str, Any]:
    from cognify_dagster.governance import check_admins, rotate_log_key
    from cognify_dagster.ledger import LogSigner, new_secret
    from cognify_dagster.workspace.workspace import SIGNER_STATE, log_keys

    config = workspace.config
    paths = log_keys(config)
    reading = workspace.read()
    acts = _acts(reading)
    state = config.home / SIGNER_STATE
    done = acts.rotation_to(str(LogSigner(paths, state, workspace.origin).verifier)) if len(paths) > 1 else None
    if done is not None:
        raise Failure(
            f"a rotation is under way since entry {done.seq}; both keys sign. End it with `cognify ledger rotate-key --finish`",
            BLOCKED,
        )
    check_admins(reading, keys)
    if not json_:
        trial_banner(reading.trial)
        say(f"A new log key is made beside {clean(paths[0])}; both sign until --finish.")
        pairs([("Reason", reason), ("Signed by", ", ".join(key.person for key in keys))])
    confirm("Rotate the log key?", yes)
    if len(paths) == 1:
        number = _number(paths[0]) + 1
        paths.append(config.keys / f"log.{number}.key")
        new_secret(paths[-1])
    signer = LogSigner(paths, state, workspace.origin)
    old, new = str(signer.verifiers[-2]), str(signer.verifiers[-1])
    _add_to_trust(config.trust, signer.verifier)  # before anything is signed with it
    workspace.ledger.signer = signer
    receipt = rotate_log_key(workspace, old, new, overlap=overlap, reason=reason, signers=keys)
    note = workspace.ledger.sign_checkpoint()
    until = _overlap_of(workspace, new).overlap_until_size
    if not json_:
        pairs(
            [
                ("Recorded as", f"entry {receipt.seq}"),
                ("New key", new),
                ("Key file", paths[-1]),
                ("Overlap", f"until the ledger has {until} entries"),
            ]
        )
        say(f"Added to {clean(config.trust)}. Give every auditor, and every witness, this line:")
        say(f"  log {new}")
        say("Back the new key up as carefully as the old one. Restart `cognify signer run` and the Dagster processes.")
    return {"entry": receipt.seq, "old": old, "new": new, "overlap_until_size": until, "note": note}


def _overlap_of(workspace: Workspace, new: str) -> LogKeyRotated:
    """The rotation to a key, signed by enough admins."""
    found: Recorded[LogKeyRotated] | None = _acts(workspace.read()).rotation_to(new)
    if found is None:
        raise Failure(
            "the rotation is not recorded with the signatures of two workspace admins; run `cognify ledger rotate-key --as … "
            "--as …` again",
            BLOCKED,
        )
    return found.record


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
    until, size = _overlap_of(workspace, str(signer.verifier)).overlap_until_size, workspace.ledger.size()
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
@signing_options
@click.pass_context
def revoke_key(
    ctx: click.Context,
    key: str,
    last_good_size: int,
    reason: str,
    **signing: Any,
) -> None:
    """Record that a log key was stolen or lost: its signature counts only for heads of at most N entries.

    Two different workspace admins sign. VKEY is the key as it stands behind `log` in trust.txt, or the 8 hex digits in it. Heads up
    to N then count only where a witness or an anchor remembers them. Another key must be there to sign: rotate first.

    \b
    Example:
      cognify ledger rotate-key --reason "the log key was copied" --as ada.key.json --as finn.key.json
      cognify ledger revoke-key 1a2b3c4d --last-good-size 5120 --reason "the log key was copied" \\
          --as ada.key.json --as finn.key.json
    """
    from cognify_dagster.governance import check_admins, revoke_log_key

    signers = unlocked(signing)
    workspace = with_signer(open_workspace(ctx))
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
    _acts(reading)
    check_admins(reading, signers)
    rows = [("Key", vkey), ("Counts for", f"heads of at most {last_good_size} entries"), ("Reason", reason)]
    ask(signing, reading, rows, signers, "Revoke this log key? It cannot be taken back.")
    receipt = revoke_log_key(workspace, vkey, last_good_size=last_good_size, reason=reason, signers=signers)
    then = ". Drop the key with `cognify ledger rotate-key --finish --now`, and tell every auditor."
    recorded(signing, receipt, then, vkey=vkey, last_good_size=last_good_size)


@command.command("correct-clock")
@click.option("--reason", required=True, help="What happened; it stands in the ledger.")
@signing_options
@click.pass_context
def correct_clock_(
    ctx: click.Context,
    reason: str,
    **signing: Any,
) -> None:
    """Take the ledger's time back to this machine's, after a clock had run ahead and later entries were refused.

    Time never goes back along the ledger; this entry is the one exception, and two different workspace admins sign it. See first
    that the clock here is right. Entries with the wrong times stay as they are.

    \b
    Example:
      cognify ledger correct-clock --reason "host 7 ran two days ahead" --as ada.key.json --as finn.key.json
    """
    from cognify_dagster.governance import check_admins, clock_correction, correct_clock

    signers = unlocked(signing)
    workspace = with_signer(open_workspace(ctx))
    _require_workload(workspace)
    reading = workspace.read()
    wrong, floor = clock_correction(reading, time.time_ns() // 1000)
    check_admins(reading, signers)
    rows = [
        ("Newest entry", f"entry {reading.size - 1}, {moment(wrong)}"),
        ("This clock", moment(time.time_ns() // 1000)),
        ("No entry before", moment(floor)),
        ("Reason", reason),
    ]
    ask(signing, reading, rows, signers, "Go on with the time of this clock?")
    receipt = correct_clock(workspace, reason=reason, signers=signers)
    at = moment(receipt.time_us)
    recorded(signing, receipt, f" at {at}; later entries follow it.", time=at, wrong=moment(wrong), floor=moment(floor))
