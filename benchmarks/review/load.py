"""Fifty people at work on a site over Postgres: how long pages take, whether any fails, whether memory grows."""

from __future__ import annotations

import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ledger.harness import Options, Result, Row, percentile
from benchmarks.review.world import Size, many_models
from cognify_dagster.review.app import open_site
from cognify_dagster.review.config import review_config
from cognify_dagster.review.store.accounts import find_account
from cognify_dagster.review.store.sessions import open_session
from cognify_dagster.review.visit import cookie_name
from cognify_dagster.workspace import Workspace

USERS, THINK_S, GOAL_MS = 50, 5.0, 150.0
PEOPLE = ("vera", "carl", "olga", "ada")
JUDGED = ("inbox", "package", "ledger")
_READY_S, _CALM_S = 900.0, 12.0


class Visitor(threading.Thread):
    """One person: opens a page, reads it for about five seconds, opens the next."""

    def __init__(self, port: int, cookie: str, models: int, versions: int, until: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.port, self.cookie, self.models, self.versions, self.until = port, cookie, models, versions, until
        self.random = random.Random(seed)
        self.times: list[tuple[str, float]] = []
        self.errors: list[str] = []

    def run(self) -> None:
        """Visit pages until the time is over."""
        time.sleep(self.random.uniform(0, THINK_S))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while time.monotonic() < self.until:
            name, path = self._next()
            started = time.perf_counter()
            try:
                connection.request("GET", path, headers={"Cookie": self.cookie, "Host": f"localhost:{self.port}"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.errors.append(f"{path}: {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(f"{path}: {error!r}")
                connection.close()
            self.times.append((name, time.perf_counter() - started))
            time.sleep(self.random.uniform(0.5, 1.5) * THINK_S)

    def _next(self) -> tuple[str, str]:
        model = f"model_{self.random.randrange(self.models):04d}"
        version = self.versions - self.random.randrange(2)
        pages = {
            "inbox": "/", "package": f"/models/{model}/{version}", "ledger": "/ledger",
            "inventory": f"/models?q={model[:8]}", "model": f"/models/{model}", "comparison": f"/models/{model}/{version}/compare?with={version - 1}",
        }  # fmt: skip
        name = self.random.choices(list(pages), weights=(30, 35, 15, 8, 8, 4))[0]
        return name, pages[name]


@contextmanager
def served(options: Options, workspace: Workspace) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """The same ledger in Postgres, byte for byte, with a site over it that `cognify review serve` runs."""
    from tests.conformance.postgres_server import NewLedger

    place = NewLedger(workspace.origin)
    source, store = workspace.ledger.store, place.open()
    size = source.size()
    print(f"copying {size:,} entries to Postgres …", flush=True)
    store.load(source.entries(0, size), source.payloads(0, size), source.checkpoints())
    place.server.execute("DROP DATABASE IF EXISTS review", "CREATE DATABASE review")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = options.folder / "site"
    folder.mkdir()
    config = workspace.config
    shutil.copy(config.trust, folder / "trust.txt")
    (folder / "cognify.toml").write_text(
        f'[workspace]\norigin = "{config.origin}"\nhome = "{config.home}"\ntrust = "trust.txt"\nworkload = "{config.workload}"\n'
        f'ledger = "{place.url()}"\n\n[review]\nport = {port}\nurl = "http://localhost:{port}"\n'
        f'database = "{place.server.url("review")}"\naccess_batch = 10000\naccess_minutes = 1440\n'
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cognify_dagster.cli", "--workspace", str(folder), "review", "serve"]
    process = subprocess.Popen(command, env=environment, cwd=folder)
    try:
        yield process, port, folder
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def cookies(folder: Path, count: int) -> list[str]:
    """Sign people in, as many times as there are visitors; return their cookies."""
    from cognify_dagster.review.identity.accounts import add_account

    workspace = Workspace.open(folder)
    site = open_site(workspace, review_config(workspace.config))
    found = []
    with site.store.begin() as connection:
        for number in range(count):
            person = f"person/{PEOPLE[number % len(PEOPLE)]}"
            account = find_account(connection, person=person) or add_account(
                connection, person.partition("/")[2], int(time.time()), person=person
            )
            token = open_session(connection, account.id, "passkey", int(time.time()), 12, "127.0.0.1", "bench")
            found.append(f"{cookie_name(site)}={token}")
    site.store.close()
    return found


def ready(process: subprocess.Popen[bytes], port: int, cookie: str, *, whole: bool = False) -> float:
    """Wait for the first page, or until the board has looked at everything (`whole`); return the seconds that took."""
    started = time.monotonic()
    while time.monotonic() - started < _READY_S:
        if process.poll() is not None:
            raise SystemExit("the site did not start; see above")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        try:
            connection.request("GET", "/", headers={"Cookie": cookie, "Host": f"localhost:{port}"})
            answer = connection.getresponse()
            text = answer.read().decode()
        except OSError:
            time.sleep(0.2)
            continue
        finally:
            connection.close()
        if answer.status != 200:
            raise SystemExit(f"the first page: {answer.status} {text[:300]}")
        if not whole or ("still being looked at" not in text and "newer entries are being read" not in text):
            return time.monotonic() - started
        time.sleep(1)
    raise SystemExit(f"the site was not ready after {_READY_S:.0f} s")


def resident(process: subprocess.Popen[bytes]) -> int:
    """Memory of the site's process in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) // 1024 if found else 0


def at_rest(process: subprocess.Popen[bytes]) -> float:
    """Wait until the work in the background is done: newest packages are rendered ahead. Return the seconds that took."""
    started, before = time.monotonic(), processor_s(process)
    while time.monotonic() - started < _READY_S:
        time.sleep(_CALM_S)
        now = processor_s(process)
        if now - before < 0.1 * _CALM_S:
            return time.monotonic() - started
        before = now
    raise SystemExit(f"the site was still at work after {_READY_S:.0f} s")


def processor_s(process: subprocess.Popen[bytes]) -> float:
    """Processor seconds that the site's process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Crowd:
    """What visitors met: milliseconds of each page, errors, the site's memory every five seconds, its share of a processor."""

    times: dict[str, list[float]]
    errors: list[str]
    memory: list[int]
    share: float

    def p95(self, name: str) -> float:
        """Return the 95th percentile of a page, in milliseconds."""
        return percentile(self.times[name], 0.95) if self.times.get(name) else 0.0

    @property
    def worst(self) -> float:
        """The largest p95 of the pages that are judged."""
        return max(self.p95(name) for name in JUDGED)


def visit(process: subprocess.Popen[bytes], port: int, signed_in: Sequence[str], size: Size, seconds: float) -> Crowd:
    """Let everybody look around for so many seconds."""
    memory, used, until = [], processor_s(process), time.monotonic() + seconds
    visitors = [Visitor(port, cookie, size.models, size.versions, until, n) for n, cookie in enumerate(signed_in)]
    for visitor in visitors:
        visitor.start()
    while time.monotonic() < until:
        time.sleep(min(5.0, max(0.1, until - time.monotonic())))
        memory.append(resident(process))
    share = (processor_s(process) - used) / seconds
    for visitor in visitors:
        visitor.join(40)
    times: dict[str, list[float]] = defaultdict(list)
    for visitor in visitors:
        for name, took in visitor.times:
            times[name].append(took * 1e3)
    return Crowd(times, [text for visitor in visitors for text in visitor.errors], memory, share)


def load(options: Options) -> Result:
    """Fifty visitors with five seconds between pages: while the site is still looking at what there is, and then at rest, which is
    judged."""
    size = Size(40, 6, 20_000) if options.quick else Size(1_000, 20, options.entries or 1_000_000)
    users, early_s, seconds = (10, 5.0, 15.0) if options.quick else (USERS, 60.0, 600.0)
    workspace = many_models(options.cache, size)
    with served(options, workspace) as (process, port, folder):
        time.sleep(1.0)
        signed_in = cookies(folder, users)
        first = ready(process, port, signed_in[0])
        early = visit(process, port, signed_in, size, early_s)
        complete = ready(process, port, signed_in[0], whole=True)
        rested = at_rest(process)
        crowd = visit(process, port, signed_in, size, seconds)
    third, errors = max(1, len(crowd.memory) // 3), early.errors + crowd.errors
    before = crowd.memory[third - 1]
    grown = crowd.memory[-1] - before
    detail = [
        f"{name}: {len(found)} pages, median {percentile(found, 0.5):.0f} ms, p95 {crowd.p95(name):.0f} ms, longest {max(found):.0f} ms"
        for name, found in sorted(crowd.times.items())
    ]
    detail += [
        f"{len(errors)} errors{': ' + '; '.join(errors[:3]) if errors else ''}",
        f"memory: {crowd.memory[0]} MiB at first, {before} after a third of the time, {crowd.memory[-1]} at the end; every minute "
        + ", ".join(map(str, crowd.memory[::12])),
        f"processor: the site's process used {crowd.share:.2f} of one",
        f"start (the verified index lay there): first page after {first:.0f} s; {users} people from then on for {early_s:.0f} s: p95 "
        + ", ".join(f"{name} {early.p95(name):.0f} ms" for name in JUDGED),
        f"then every version looked at after {complete:.0f} s more, and the newest packages rendered after {rested:.0f} s more",
        "packages: the two newest versions of each model are read, at random; every page fetches and hashes the package anew",
    ]
    holds = crowd.worst < GOAL_MS and not errors and grown < max(40, before // 10)
    return Result(
        f"{users} people, {THINK_S:.0f} s between pages, {size.models * size.versions:,} versions, {size.entries:,} entries on Postgres",
        f"p95 of inbox, package and ledger < {GOAL_MS:.0f} ms, no error, memory flat",
        f"p95 {crowd.worst:.0f} ms, {len(errors)} errors, {grown:+d} MiB",
        holds if not options.quick else None,
        detail,
    )


ROWS = [Row("load", load)]
