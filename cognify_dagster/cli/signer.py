"""`cognify signer`: signs checkpoints as a process of its own, so that the log key can lie under another login than the writers.

Invariants: it refuses to sign what contradicts itself or what it signed before, and ends then; whatever else fails is told and
tried again.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, UNREADABLE, Failure, explain, finish
from cognify_dagster.cli.inputs import open_workspace
from cognify_dagster.cli.output import clean, say

if TYPE_CHECKING:
    from cognify_dagster.ledger import LogSigner
    from cognify_dagster.workspace import Workspace

_POLL_S = 0.25
_RETRY_S = 5.0


@click.group(cls=Group, name="signer")
def command() -> None:
    """Sign checkpoints as a process of its own.

    \b
    Example:
      cognify signer run
    """


@command.command("run")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=60.0,
    show_default=True,
    help="Sign when new entries wait so many seconds.",
)
@click.option(
    "--entries", type=click.IntRange(1), default=256, show_default=True, help="Sign at once when so many wait."
)
@click.option("--anchor", "anchoring", is_flag=True, help="Also put each head to the anchors of cognify.toml.")
@click.pass_context
def run(ctx: click.Context, every: float, entries: int, anchoring: bool) -> None:
    """Sign the ledger's head whenever enough is new, until SIGTERM or Ctrl-C; then sign what waits, and end.

    Witnesses of the trust file are asked for each head. It ends with code 1 or 2 if the ledger contradicts itself or what was
    signed before; it goes on if the database, a witness or an anchor is out of reach for a while. The writers set
    signer = "external" in their cognify.toml; this process has its own, with the log key and trust.txt.

    \b
    Example:
      cognify --workspace /srv/signer signer run --every 2
      cognify signer run --every 60 --entries 256 --anchor
    """
    from cognify_dagster.workspace import open_signer

    workspace = open_workspace(ctx)
    signer = open_signer(workspace.config)
    if signer is None:
        raise Failure(f"no log key lies in {workspace.config.keys}; this is where it has to be", UNREADABLE)
    trust = {str(key) for key in workspace.trust().logs}
    unknown = [str(key) for key in signer.verifiers if str(key) not in trust]
    if unknown:
        raise Failure(f"the log key here is not in {workspace.config.trust}: {unknown[0]}", UNREADABLE)
    workspace.ledger.signer = signer
    _require_good_key(workspace, signer)
    stop = threading.Event()
    previous = {name: signal.signal(name, lambda *_: stop.set()) for name in (signal.SIGTERM, signal.SIGINT)}
    say(
        f"Signer of {workspace.origin} runs with key {signer.verifier.key_id.hex()}, every {every:g} s or {entries} entries"
    )
    try:
        code = _Loop(workspace, every, entries, anchoring, stop).run()
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
    say("Signer stopped.")
    finish(code)


def _require_good_key(workspace: Workspace, signer: LogSigner) -> None:
    """See that not every key here was revoked; name acts about log keys that count for nothing."""
    from cognify_dagster.governance import judge_acts
    from cognify_dagster.ledger import LedgerError

    try:
        acts = signer.acts(workspace.ledger.store, judge_acts)
    except (LedgerError, ValueError):
        return  # signing reads everything again and says what is wrong
    for seq, text in acts.void:
        say(f"Warning: entry {seq} counts for nothing: {clean(text)}", err=True)
    if all(str(key) in acts.revoked for key in signer.verifiers):
        raise Failure(
            f"the log key here ({signer.verifier.key_id.hex()}) was revoked by two workspace admins; what it signs counts for "
            "nothing. Run `cognify ledger rotate-key`",
            BLOCKED,
        )


class _Loop:
    def __init__(
        self, workspace: Workspace, every: float, entries: int, anchoring: bool, stop: threading.Event
    ) -> None:
        self.workspace, self.ledger = workspace, workspace.ledger
        self.every, self.entries, self.anchoring, self.stop = every, entries, anchoring, stop
        self.signed = self.proven = 0
        self.waiting_since: float | None = None

    def run(self) -> int:
        """Sign until stopped; return the exit code."""
        from cognify_dagster.governance import judge_acts
        from cognify_dagster.ledger import LedgerError, Tampered

        pause = min(_POLL_S, self.every)
        while True:
            stopping = self.stop.is_set()
            try:
                if self._due(stopping):
                    self._sign()
                if stopping:
                    return 0
                wait = pause
            except Tampered as error:
                say(f"Error: nothing is signed any more: {clean(error)}", err=True)
                return self.proven or int(self.ledger.verify(self.workspace.trust(), acts=judge_acts).outcome) or 1
            except (LedgerError, OSError) as error:
                text, code = explain(error)
                say(f"Not signed: {clean(text)}", err=True)
                if stopping:
                    return code
                wait = min(_RETRY_S, self.every)
            self.stop.wait(wait)

    def _due(self, stopping: bool) -> bool:
        """Whether to sign now: enough entries wait, or the oldest of them waits long enough."""
        if not self.signed:
            last = self.ledger.signer.last_signed() if self.ledger.signer is not None else None
            self.signed = last.size if last is not None else 0
        waiting = self.ledger.size() - self.signed
        if waiting == 0:
            self.waiting_since = None
            return False
        now = time.monotonic()
        self.waiting_since = self.waiting_since if self.waiting_since is not None else now
        # fewer than were signed: let the signer look, and refuse
        return waiting < 0 or stopping or waiting >= self.entries or now - self.waiting_since >= self.every

    def _sign(self) -> None:
        note = self.ledger.sign_checkpoint()
        self.signed, self.waiting_since = int(note.split("\n")[1]), None
        say(f"Signed {self.signed} entries")
        for found in self.ledger.witnessing:
            say(f"  {found.verdict.value}: {clean(found)}", err=found.verdict.value != "cosigned")
        if any(found.alarming for found in self.ledger.witnessing):
            self._prove_alarm()
        if self.anchoring:
            self._anchor(note)

    def _prove_alarm(self) -> None:
        """A witness says that it knows another history. That alone is a claim; its cosigned head is the proof, and ends this."""
        from cognify_dagster.cli.ledger.external import ask_witnesses, joined
        from cognify_dagster.governance import judge_acts
        from cognify_dagster.ledger import Tampered

        trust = self.workspace.trust()
        heads = joined(head for said in ask_witnesses(trust, self.workspace.origin) for head in said.heads)
        report = self.ledger.verify(trust, remembered=heads, acts=judge_acts)
        wrong = [finding for finding in report.findings if finding.outcome.name in ("TAMPERED", "ROLLED_BACK")]
        if wrong:
            self.proven = int(wrong[0].outcome)
            raise Tampered(str(wrong[0]))
        say("  the witness's head does not prove what it says; signing goes on", err=True)

    def _anchor(self, note: str) -> None:
        from cognify_dagster.ledger.anchors import AnchorError
        from cognify_dagster.workspace.anchoring import put

        for item in self.workspace.config.anchors:
            try:
                put(self.workspace.config, item, note)
            except AnchorError as error:
                say(f"  anchor {item.name}: {clean(error)}", err=True)
