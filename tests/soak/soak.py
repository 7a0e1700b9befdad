"""The soak: honest entries by several processes, with restarts, key rotation, erasures, archives, a witness and a verifier
that watches all the time. Nothing dishonest happens, so every finding is a false alarm.

`make soak` runs it with N=1000000 entries and writes what came of it to docs/soak.md; tests/soak/test_soak.py runs a small one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cognify_dagster.ledger import (
    Checkpoint,
    Draft,
    Ledger,
    LogSigner,
    Report,
    SqliteStore,
    Store,
    TrustFile,
    VerifierKey,
    canonical_json,
    new_secret,
    parse_note,
)
from cognify_dagster.ledger.archive.detaching import ArchivedStore, attach_segment, detach_segment, due_segments
from cognify_dagster.ledger.archive.export import export_archive
from cognify_dagster.ledger.archive.reader import open_archive
from cognify_dagster.ledger.verification.scan import Depth
from cognify_dagster.ledger.verification.state import StateFile
from cognify_dagster.ledger.witness import AddCheckpoint, Witness, WitnessKey, WitnessStore
from tests.conformance.postgres_server import NewLedger, Server
from tests.ledger.archive_world import MANIFEST_KEYS, SIGNER
from tests.ledger.writer import open_store

ROOT = Path(__file__).parents[2]
ORIGIN = "bank.example/demo/soak"
ROUNDS = 40
WRITERS = 2


@dataclass
class Soak:
    """One soak in a folder."""

    folder: Path
    entries: int
    seed: int = 1
    done: Counter[str] = field(default_factory=Counter)
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0
    size: int = 0
    server: Server | None = None
    """A Postgres server of its own, which is stopped in mid-write now and then; the ledger is a SQLite file without it."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.place = NewLedger(ORIGIN, self.server) if self.server is not None else None
        self.address = str(self.folder / "ledger.sqlite") if self.place is None else self.place.url()
        self.cut = 65_536 if self.entries >= 400_000 else max(256, self.entries // 6 // 256 * 256)
        self.archives: dict[int, Path] = {}
        self.checked: dict[Path, Any] = {}
        self.keys: list[Path] = []
        self.published: list[VerifierKey] = []
        self.genesis: bytes | None = None
        self.erased: set[int] = set()
        if self.place is None:
            SqliteStore.create(self.address, ORIGIN)
        self.witness_key = WitnessKey.create(self.folder / "witness.key", "witness.example/audit")
        WitnessStore.create(self.folder / "witness.sqlite", self.witness_key.verifier)
        self.rotate()

    # --- everything is opened anew each time, as after a restart ---

    def rows(self) -> Store:
        """The database alone."""
        return open_store(self.address)

    def store(self) -> ArchivedStore:
        archives = [self.opened(path) for path in self.archives.values()]
        return ArchivedStore(self.rows(), archives)

    def opened(self, folder: Path) -> Any:
        """An archive, all its files checked; once until the next whole verification, since that reads every byte."""
        if folder not in self.checked:
            self.checked[folder] = open_archive(
                folder, manifest_keys=MANIFEST_KEYS, log_keys=self.published, origin=ORIGIN
            )
            self.done["archives opened and checked"] += 1
        return self.checked[folder]

    def ledger(self) -> Ledger:
        return Ledger(self.store(), signer=LogSigner(self.keys, self.folder / "signer.json", ORIGIN))

    def trust(self) -> TrustFile:
        witness = ("audit", self.witness_key.verifier)
        return TrustFile(tuple(self.published), self.genesis, (witness,), (("any", 1, ("audit",)),), "any")

    # --- what happens ---

    def write(self, round_: int, count: int) -> None:
        """Two processes append at once while a verifier reads."""
        share = max(1, count // WRITERS)
        batch = str(max(10, min(500, share // 4)))
        command = [sys.executable, "-m", "tests.soak.writer", self.address]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        writers = [
            subprocess.Popen(
                [*command, f"w{at}", str(round_ * share), str((round_ + 1) * share), batch],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for at in range(WRITERS)
        ]
        if self.server is not None and round_ % 5 == 3:
            before = self.rows().size()
            while self.rows().size() == before and any(writer.poll() is None for writer in writers):
                time.sleep(0.02)
            self.server.stop_at_once()
            self.server.start()
            self.done["server stops in mid-write"] += 1
        while any(writer.poll() is None for writer in writers):
            if self.genesis is not None:
                self.judge("verified while others wrote", self.verify(since=True))
            time.sleep(0.05)
        for writer in writers:
            output = writer.communicate()[0]
            assert writer.returncode == 0, "a writer failed"
            self.done["entries by writer processes"] += int(output)
            self.done["writer processes"] += 1
        if self.genesis is None:
            self.genesis = next(iter(self.rows().entries(0, 1))).leaf

    def record(self, ledger: Ledger, kind: str, facts: dict[str, Any]) -> Any:
        """An entry about the ledger itself."""
        digest = hashlib.sha256(canonical_json(facts)).hexdigest()
        payload = canonical_json({"facts": facts, "observed": {}})
        idem = hashlib.sha256(f"{kind} {digest}".encode()).hexdigest()
        return ledger.append(Draft(kind, 1, ("ledger",), "workload/w", idem, payload, digest))

    def rotate(self) -> None:
        """A new log key; until the next rotation both sign."""
        path = self.folder / f"log-{len(self.published)}.key"
        new_secret(path)
        self.keys = [*self.keys[-1:], path]
        signer = LogSigner(self.keys, self.folder / "signer.json", ORIGIN)
        self.published = list(dict.fromkeys([*self.published, *signer.verifiers]))
        if self.genesis is not None:
            old, new = self.published[-2:]
            size = self.rows().size()
            facts = {"new": str(new), "old": str(old), "overlap_until_size": size + self.entries}
            self.record(self.ledger(), "log_key_rotated", facts)
            self.done["key rotations"] += 1

    def sign(self) -> None:
        """Sign a checkpoint, have it cosigned, keep it."""
        ledger = self.ledger()
        note = ledger.sign_checkpoint()
        self.done["checkpoints"] += 1
        witness = Witness(
            WitnessStore(self.folder / "witness.sqlite", self.witness_key.verifier), self.witness_key, self.published
        )
        head = Checkpoint.parse(parse_note(note).text)
        old = witness.store.remembered(ORIGIN)[0].size
        proof = tuple(ledger.consistency(old, head.size)) if 0 < old < head.size else ()
        answer = witness.add_checkpoint(AddCheckpoint(old, proof, note).body())
        if answer.status != 200:
            self.alarms.append(f"the witness refused size {head.size}: {answer.status} {answer.body!r}")
            return
        ledger.store.add_checkpoint(head.size, note + answer.body.decode())
        self.done["cosignatures"] += 1

    def erase(self, count: int) -> None:
        """Erase payloads that are still in the database."""
        ledger = self.ledger()
        low = max(self.archives, default=-self.cut) + self.cut
        young = [seq for seq in self.random.sample(range(low, ledger.size()), count) if seq not in self.erased and seq]
        row_kinds = {row.seq: row.kind for seq in young for row in ledger.store.entries(seq, seq + 1)}
        chosen = [seq for seq in young if row_kinds[seq] == "training_run"]
        if chosen:
            self.record(ledger, "payload_erased", {"seqs": sorted(chosen), "basis": "Art. 17", "n": len(self.erased)})
            ledger.store.erase(chosen)
            self.erased |= set(chosen)
            self.done["payloads erased"] += len(chosen)

    def archive(self) -> None:
        """Detach what is due; every second time put the last segment back and detach it again."""
        ledger = self.ledger()
        for start, end in due_segments(ledger.store, cut=self.cut, keep=self.cut // 2)[:1]:
            self.detach(ledger, start, end)
            self.done["segments detached"] += 1
        if self.archives and self.done["segments detached"] % 2 == 0 and self.done["segments put back"] < 3:
            start = max(self.archives)
            ledger = self.ledger()
            attach_segment(ledger.store, self.opened(self.archives[start]))
            del self.archives[start]
            self.done["segments put back"] += 1

    def detach(self, ledger: Ledger, start: int, end: int) -> None:
        folder = self.folder / f"segment-{start}-{self.done['segments detached']}"
        export_archive(ledger.store, folder, start, end, signer=SIGNER, log_keys=self.published)

        def note(archive: Any) -> Any:
            facts = {"end": end, "manifest": archive.manifest, "root": archive.root.hex(), "start": start}
            return self.record(ledger, "segment_archived", facts)

        detach_segment(ledger.store, self.opened(folder), note)
        self.archives[start] = folder

    # --- the verifiers ---

    def verify(self, *, since: bool) -> Report:
        if not since:
            self.checked.clear()
        state = StateFile(self.folder / "auditor.json") if since else None
        signer = LogSigner(self.keys, self.folder / "signer.json", ORIGIN)
        ledger = Ledger(self.store(), signer=None if since else signer)
        return ledger.verify(self.trust(), since=state, depth=Depth())

    def judge(self, what: str, report: Report) -> None:
        self.done[what] += 1
        # before the first checkpoint of a new ledger nothing is proven yet: that is no alarm
        self.alarms += [f"{what}: {item}" for item in report.findings]
        if report.level != "L2":
            self.alarms.append(f"{what}: level {report.level}")

    def run(self) -> Soak:
        """Let everything happen."""
        began = time.monotonic()
        rounds = ROUNDS if self.entries >= 20_000 else 6
        for round_ in range(rounds):
            self.write(round_, -(-self.entries // rounds))
            self.sign()
            self.judge("verified since the last time", self.verify(since=True))
            if round_ % 3 == 1:
                self.rotate()
            self.erase(5)
            self.sign()
            self.archive()
            self.judge("verified since the last time", self.verify(since=True))
            if round_ % max(1, rounds // 4) == rounds // 4 - 1:
                self.judge("verified whole", self.verify(since=False))
            if sys.stderr.isatty() or os.environ.get("SOAK_PROGRESS"):
                print(f"round {round_ + 1}/{rounds}: {dict(self.done)}", file=sys.stderr, flush=True)
        self.sign()
        last = self.verify(since=False)
        self.judge("verified whole", last)
        if last.uncovered:
            self.alarms.append(f"{last.uncovered} entries are not covered after the last checkpoint")
        if last.erased != len(self.erased):
            self.alarms.append(f"{len(self.erased)} payloads were erased, the report says {last.erased}")
        self.size, self.seconds = last.size, time.monotonic() - began
        return self

    def result(self) -> str:
        """Where and when it ran, what was done, and every alarm."""
        cpu = next(
            (
                line.split(":", 1)[1].strip()
                for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        lines = "".join(f"| {what} | {count:,} |\n" for what, count in sorted(self.done.items()))
        alarms = "".join(f"\n- {alarm}" for alarm in self.alarms[:50]) or "none.\n"
        database = f"SQLite {sqlite3.sqlite_version}"
        if self.server is not None:
            database = "PostgreSQL " + str(self.server.execute("SHOW server_version")[0][0]).split()[0]
        return f"""Result of {datetime.now(timezone.utc).date().isoformat()}, on {os.cpu_count()} cores ({cpu}), {platform.system()}, Python
{platform.python_version()}, {database}:

| what | count |
|---|---|
| **entries in the ledger** | **{self.size:,}** |
{lines}| **false alarms** | **{len(self.alarms)}** |

It took {self.seconds:,.0f} seconds, verification included; that is no measurement of speed.

Alarms: {alarms}"""


HEAD = """# Soak

`make soak` writes honest entries with several processes and restarts, rotates the log key, erases payloads, detaches archive
segments and puts some back, has every checkpoint cosigned by a witness, and verifies all the time: incrementally, also while
others write, and now and then the whole ledger with its archives. Nothing dishonest happens, so every finding would be a false
alarm. Small ones run with the tests (`tests/soak`). `make soak SOAK_ENTRIES=…` chooses the size; only a run of a million replaces the result in SQLite.
`python -m tests.soak.soak --store postgres --entries …` does the same in Postgres, and stops the server at once, as in a crash, while writers are at work.
"""
SECTIONS = {"sqlite": "## In SQLite", "postgres": "## In Postgres"}


def page(old: str, store: str, result: str) -> str:
    """Return the page with a new result of one store; that of the other one stays."""
    kept = {
        name: old.partition(f"\n{title}\n")[2].partition("\n## ")[0].strip("\n") for name, title in SECTIONS.items()
    }
    kept[store] = result.strip("\n")
    return HEAD + "".join(f"\n{title}\n\n{kept[name]}\n" for name, title in SECTIONS.items() if kept[name])


def main() -> int:
    """Run a soak in a temporary folder; with --write keep the result as a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=int(os.environ.get("SOAK_ENTRIES", "1000000")))
    parser.add_argument("--write", type=Path, help="the page to write the result to")
    parser.add_argument("--store", choices=sorted(SECTIONS), default="sqlite")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=arguments.folder))
    server = Server() if arguments.store == "postgres" else None
    try:
        soak = Soak(folder, arguments.entries, server=server).run()
        result = soak.result()
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.write:
        old = arguments.write.read_text(encoding="utf-8") if arguments.write.exists() else ""
        arguments.write.write_text(page(old, arguments.store, result), encoding="utf-8")
    print(result)
    return 1 if soak.alarms else 0


if __name__ == "__main__":
    sys.exit(main())
