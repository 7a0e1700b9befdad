"""Durable appends to Postgres from 16 connections, against what the same server can do at best and against other ways to sequence.

Contenders, interleaved in rounds of the same number of appends, all with the same rows, indexes and bytes, all durable:

* `append`: the ledger's server function, in a founded ledger whose writer signs, so that every check is in force;
* `bare`: a server function that takes the same lock and, in one round trip, does the same inserts into tables with the same
  indexes, but hashes, checks and looks up nothing. It gets the finished bytes, an index entry for each subject and the digests
  ready from outside the measured time, and reads only the last row, without which it could not number the next one. In its
  favour it is called by a superuser without SECURITY DEFINER, who is asked for no rights; both sides use the driver's prepared
  statements and one statement a transaction, and neither is given less durability than the server's default;
* `unique`: read the last row, insert the next one, try again when somebody else was first;
* `for_update`: a transaction that locks a head row, inserts and updates it;
* `grouped`: not judged. The same 16 callers through one `GroupCommitter` a process: those who wait share a commit. Here sealing and
  signing are inside the measured time, and it is no longer one commit an append, so it is no answer to `bare`.

Run `python -m benchmarks.ledger.append_postgres`. Rates depend on the disk and on what else the machine does; the ratios are the
medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.ledger.harness import Options, Result, Row, percentile, spread
from cognify_dagster.ledger import Draft, GroupCommitter, Ledger, canonical_json
from cognify_dagster.ledger.entry import SealedBody, assemble, seal_body
from cognify_dagster.ledger.postgres.store import PostgresStore
from tests.conformance.postgres_server import NewLedger, Server

ORIGIN = "bank.example/bench/postgres"
TARGET = 0.85
CONNECTIONS = 16
PROCESSES = 4
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY_ID = hashlib.sha256(KEY.public_key().public_bytes_raw()).hexdigest()[:16]

BARE = """
CREATE SCHEMA {s};
CREATE TABLE {s}.entry (seq bigint PRIMARY KEY, time_us bigint NOT NULL, idem bytea NOT NULL UNIQUE, prev bytea NOT NULL UNIQUE,
    leaf bytea NOT NULL, kind text COLLATE "C" NOT NULL, bytes bytea NOT NULL);
CREATE TABLE {s}.entry_subject (subject text COLLATE "C" NOT NULL, seq bigint NOT NULL, PRIMARY KEY (subject, seq));
CREATE INDEX ON {s}.entry_subject (seq);
CREATE TABLE {s}.payload (seq bigint PRIMARY KEY, salt bytea, facts_digest bytea, bytes bytea);
CREATE TABLE {s}.node (level int NOT NULL, idx bigint NOT NULL, hash bytea NOT NULL, PRIMARY KEY (level, idx));
CREATE TABLE {s}.head (size bigint);
INSERT INTO {s}.head VALUES (0);
CREATE FUNCTION {s}.put(v_seq bigint, v_idem bytea, v_prev bytea, v_kind text, v_data bytea, v_subjects text[], v_salt bytea,
    v_payload bytea) RETURNS bigint LANGUAGE plpgsql AS $f$
DECLARE v_level int := 0; v_idx bigint := v_seq;
BEGIN
    INSERT INTO {s}.entry VALUES (v_seq, 0, v_idem, v_prev, v_idem, v_kind, v_data);
    INSERT INTO {s}.entry_subject SELECT s, v_seq FROM unnest(v_subjects) AS s;
    INSERT INTO {s}.payload VALUES (v_seq, v_salt, v_idem, v_payload);
    WHILE v_idx & 1 = 1 LOOP
        v_level := v_level + 1; v_idx := v_idx >> 1;
        INSERT INTO {s}.node VALUES (v_level, v_idx, v_idem);
    END LOOP;
    RETURN v_seq;
END $f$;
CREATE FUNCTION {s}.bare(v_idem bytea, v_kind text, v_data bytea, v_subjects text[], v_salt bytea, v_payload bytea)
    RETURNS bigint LANGUAGE plpgsql AS $f$
DECLARE v_seq bigint; v_prev bytea; v_level int := 0; v_idx bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(@key@);
    SELECT seq + 1, leaf INTO v_seq, v_prev FROM {s}.entry ORDER BY seq DESC LIMIT 1;
    v_seq := coalesce(v_seq, 0); v_idx := v_seq;
    INSERT INTO {s}.entry VALUES (v_seq, 0, v_idem, coalesce(v_prev, v_salt), v_idem, v_kind, v_data);
    INSERT INTO {s}.entry_subject SELECT s, v_seq FROM unnest(v_subjects) AS s;
    INSERT INTO {s}.payload VALUES (v_seq, v_salt, v_idem, v_payload);
    WHILE v_idx & 1 = 1 LOOP
        v_level := v_level + 1; v_idx := v_idx >> 1;
        INSERT INTO {s}.node VALUES (v_level, v_idx, v_idem);
    END LOOP;
    RETURN v_seq;
END $f$;
"""


@dataclass(frozen=True)
class Work:
    """One append, ready for every contender."""

    sealed: SealedBody
    idem: bytes
    data: bytes
    subjects: list[str]


def draft(tag: str, number: int) -> Draft:
    """An entry as a training step writes it: two subjects, about 0.5 KB of payload, signed."""
    facts = {"metrics": {f"m{i}": number / (i + 7) for i in range(12)}, "model": "credit", "tag": tag, "number": number}
    return Draft(
        kind="training_run",
        schema=1,
        subjects=("model/credit", f"model/credit@{number % 50}"),
        actor="workload/pipeline",
        idem=hashlib.sha256(f"{tag} {number}".encode()).hexdigest(),
        payload=canonical_json({"facts": facts, "observed": {"host": "bench"}}),
        facts_digest=hashlib.sha256(canonical_json(facts)).hexdigest(),
        evidence=("sha256:" + "ab" * 32,),
        key_id=KEY_ID,
        sign=KEY.sign,
    )


def genesis() -> Draft:
    """A founding entry that enrols the benchmark's writer."""
    public = {"key_id": KEY_ID, "public": base64.b64encode(KEY.public_key().public_bytes_raw()).decode()}
    workload = {"workload": "workload/pipeline", "key": public, "kinds": ["training_run"]}
    names = ("origin", "log_key", "trial", "policy", "policy_digest", "recovery_threshold", "recovery_keys", "created")
    facts: dict[str, Any] = {**dict.fromkeys(names, ""), "founders": [], "workloads": [workload]}
    return Draft(
        kind="genesis",
        schema=1,
        subjects=("ledger", "policy", "workload/pipeline"),
        actor="workload/pipeline",
        idem="00" * 32,
        payload=canonical_json({"facts": facts, "observed": {}}),
        facts_digest=hashlib.sha256(canonical_json(facts)).hexdigest(),
    )


def prepare(tag: str, count: int) -> list[Work]:
    """Seal entries outside the measured time; the baselines get data of the size the finished entry will have."""
    result = []
    for number in range(count):
        sealed = seal_body(ORIGIN, draft(tag, number))
        subjects = sorted(sealed.draft.subjects)
        data = assemble(ORIGIN, sealed.body, dict.fromkeys(subjects, 12345), "ab" * 32, 12345, time.time_ns() // 1000)
        result.append(Work(sealed, bytes.fromhex(sealed.draft.idem), data, subjects))
    return result


class Contender:
    """One connection's way to append."""

    def __init__(
        self, name: str, url: str, schema: str, store: PostgresStore | None, group: GroupCommitter | None = None
    ) -> None:
        import psycopg

        self.name, self.schema, self.store, self.group = name, schema, store, group
        self.retries = 0
        self.db: Any = None if store or group else psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self.call: Callable[[Work], None] = getattr(self, f"_{name}")

    def _append(self, work: Work) -> None:
        assert self.store is not None
        self.store.append(work.sealed, time.time_ns() // 1000, None)

    def _grouped(self, work: Work) -> None:
        assert self.group is not None
        self.group.append(work.sealed.draft)

    def _bare(self, work: Work) -> None:
        sealed = work.sealed
        self.db.execute(
            f"SELECT {self.schema}.bare(%s, %s, %s, %s, %s, %s)",
            (work.idem, sealed.draft.kind, work.data, work.subjects, sealed.salt, sealed.draft.payload),
        ).fetchall()

    def _unique(self, work: Work) -> None:
        import psycopg

        while True:
            row = self.db.execute(f"SELECT seq, leaf FROM {self.schema}.entry ORDER BY seq DESC LIMIT 1").fetchone()
            seq, prev = (row[0] + 1, row[1]) if row else (0, work.sealed.salt)
            try:
                self._put(seq, prev, work)
                return
            except psycopg.errors.UniqueViolation:
                self.retries += 1

    def _for_update(self, work: Work) -> None:
        with self.db.transaction():
            seq = self.db.execute(f"SELECT size FROM {self.schema}.head FOR UPDATE").fetchone()[0]
            self._put(seq, work.sealed.salt, work)
            self.db.execute(f"UPDATE {self.schema}.head SET size = size + 1")

    def _put(self, seq: int, prev: bytes, work: Work) -> None:
        from psycopg.types.numeric import Int8

        sealed = work.sealed
        self.db.execute(
            f"SELECT {self.schema}.put(%s::bigint, %s, %s, %s, %s, %s, %s, %s)",
            (
                Int8(seq),
                work.idem,
                prev,
                sealed.draft.kind,
                work.data,
                work.subjects,
                sealed.salt,
                sealed.draft.payload,
            ),
        ).fetchall()


def _process(pipe: Any, places: dict[str, tuple[str, str]], threads: int) -> None:
    """Serve rounds: (contender, tag, count) -> prepared; then on "go" append and give back latencies."""
    contenders: dict[str, list[Contender]] = {}
    for name, (url, schema) in places.items():
        store = PostgresStore(url, ORIGIN, connections=threads) if name == "append" else None
        group = GroupCommitter(Ledger(PostgresStore(url, ORIGIN))) if name == "grouped" else None
        contenders[name] = [Contender(name, url, schema, store, group) for _ in range(threads)]
    pipe.send("ready")
    while (message := pipe.recv()) is not None:
        name, tag, count = message
        parts = [prepare(f"{tag} {os.getpid()} {i}", count) for i in range(threads)]
        took: list[float] = []
        pipe.send("prepared")
        pipe.recv()

        def run(contender: Contender, part: list[Work], took: list[float] = took) -> None:
            for work in part:
                start = time.perf_counter()
                contender.call(work)
                took.append(time.perf_counter() - start)

        crew = [threading.Thread(target=run, args=pair) for pair in zip(contenders[name], parts, strict=True)]
        for member in crew:
            member.start()
        for member in crew:
            member.join()
        pipe.send((took, sum(contender.retries for contender in contenders[name])))


def measure(rounds: int = 15, count: int = 40, others_every: int = 3) -> dict[str, Any]:
    """Run the rounds; return rates (appends a second), latencies and the ratios of each round.

    Args:
        rounds: how often `append` and `bare` are measured, one right after the other, in alternating order.
        count: appends a connection and round.
        others_every: measure the other two contenders in every n-th round only; they are slow.
    """
    server = Server()
    workers: list[Any] = []
    pipes: list[Any] = []
    try:
        ledger, grouped = NewLedger(ORIGIN, server), NewLedger(ORIGIN, server)
        places = {}
        for name, made in (("append", ledger), ("grouped", grouped)):
            made.open().append(seal_body(ORIGIN, genesis()), time.time_ns() // 1000, None)
            places[name] = (made.url("writer"), made.schema)
        for name in ("bare", "unique", "for_update"):
            server.execute(BARE.replace("{s}", f"b_{name}").replace("@key@", "4711"))
            places[name] = (server.url(), f"b_{name}")
        context = multiprocessing.get_context("spawn")
        for _ in range(PROCESSES):
            here, there = context.Pipe()
            worker = context.Process(target=_process, args=(there, places, CONNECTIONS // PROCESSES), daemon=True)
            worker.start()
            there.close()  # so that a dead worker is an error here, not silence
            workers.append(worker)
            pipes.append(here)
        for pipe in pipes:
            pipe.recv()
        rates: dict[str, list[float]] = {name: [] for name in places}
        times: dict[str, list[float]] = {name: [] for name in places}
        retries = 0

        def one(name: str, tag: str) -> None:
            nonlocal retries
            for pipe in pipes:
                pipe.send((name, tag, count))
            for pipe in pipes:
                pipe.recv()
            start = time.perf_counter()
            for pipe in pipes:
                pipe.send("go")
            results = [pipe.recv() for pipe in pipes]
            rates[name].append(CONNECTIONS * count / (time.perf_counter() - start))
            for took, tried in results:
                times[name] += took
                retries += tried if name == "unique" else 0

        for number in range(-1, rounds):  # the first one warms up and does not count
            order = ["append", "bare"] if number % 2 else ["bare", "append"]
            if number >= 0 and number % others_every == 0:
                order += ["unique", "for_update", "grouped"]
            for name in order:
                one(name, f"{name} {number}")
            if number < 0:
                for name in order:
                    rates[name].clear()
                    times[name].clear()
        for made, times_run in ((ledger, rounds + 1), (grouped, len(rates["grouped"]))):
            size = made.open("reader", read_only=True).size()
            assert size == 1 + times_run * CONNECTIONS * count, size
    finally:
        for pipe in pipes:
            pipe.send(None)
        for worker in workers:
            worker.join(10)
        server.stop()
    ratios = [mine / bare for mine, bare in zip(rates["append"], rates["bare"], strict=True)]
    return {"rates": rates, "times": times, "ratios": ratios, "retries": retries}


def row(options: Options) -> Result:
    """The row of the table."""
    result = measure(rounds=options.repeats, count=10 if options.quick else 40)
    ratio = statistics.median(result["ratios"])
    medians = {name: statistics.median(rates) for name, rates in result["rates"].items()}
    ahead = medians["append"] > max(medians["unique"], medians["for_update"])
    took = result["times"]
    detail = [
        f"{name}{' (not judged)' * (name == 'grouped')}: {spread(result['rates'][name])} appends/s, p50 {percentile(took[name], 0.5) * 1e3:.1f} ms, "
        f"p99 {percentile(took[name], 0.99) * 1e3:.1f} ms"
        for name in medians
    ]
    return Result(
        f"Postgres, {CONNECTIONS} connections, durable",
        f"≥ {TARGET} × the bare server function doing the same inserts; ahead of UNIQUE + retry and FOR UPDATE",
        f"{ratio:.2f} × (rounds from {min(result['ratios']):.2f} to {max(result['ratios']):.2f}); {medians['append']:,.0f}/s against "
        f"{medians['unique']:,.0f}/s (UNIQUE + retry) and {medians['for_update']:,.0f}/s (FOR UPDATE)",
        None if options.quick else ratio >= TARGET and ahead,
        [*detail, f"UNIQUE + retry tried again {result['retries']} times"],
    )


ROWS = [Row("append_postgres", row)]


def main() -> None:
    """Run this row alone."""
    parser = argparse.ArgumentParser(description="durable Postgres appends, 16 connections")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", type=int, default=40, help="appends a connection and round")
    options = parser.parse_args()
    result = measure(options.rounds, options.count)
    for name, rates in result["rates"].items():
        if rates:
            p50, p99 = (percentile(result["times"][name], part) * 1e3 for part in (0.5, 0.99))
            print(f"{name:12} {statistics.median(rates):7.0f} appends/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    ratios = result["ratios"]
    print(f"append / bare: {statistics.median(ratios):.2f} (rounds from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
