"""Over HTTP: the server's limits, and a client that trusts no answer, survives every witness and tells a rollback from a fault."""

from __future__ import annotations

import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cognify_dagster.ledger import LedgerError, NoteError, TrustFile, parse_note, verify_note
from cognify_dagster.ledger.quorum import cosign, evaluate
from cognify_dagster.ledger.witness import (
    Remote,
    Response,
    Verdict,
    Witness,
    WitnessServer,
    collect,
    fetch_head,
    remotes,
)
from tests.ledger.witness_factory import NOW, ORIGIN, Log, cosigner, new_witness, private

LOG = Log()
FORK = Log(history="b", fork=7)


@contextmanager
def running(witness: Witness, prefix: str = "") -> Iterator[WitnessServer]:
    server = WitnessServer(witness, port=0, prefix=prefix)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return new_witness(tmp_path, LOG)


@pytest.fixture
def server(witness: Witness) -> Iterator[WitnessServer]:
    with running(witness) as server:
        yield server


def remote(server: WitnessServer, name: str = "W1") -> Remote:
    return Remote(name, server.witness.key.verifier, server.url)


def send(server: WitnessServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=5)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# ---- the server


def test_the_server_speaks_tlog_witness(server: WitnessServer) -> None:
    status, body = send(server, "POST", "/add-checkpoint", LOG.request(0, 8))
    assert status == 200
    assert body.decode().startswith("— risk.bank.example/w1 ")
    assert body.endswith(b"\n")
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=5)
    for expected in (409, 409):  # one connection, several requests
        connection.request("POST", "/add-checkpoint", LOG.request(0, 9))
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"], answer.read()) == (expected, "text/x.tlog.size", b"8\n")
    connection.close()


def test_other_requests_are_refused_with_bounds(server: WitnessServer) -> None:
    assert send(server, "POST", "/other", b"x")[0] == 404
    assert send(server, "GET", "/add-checkpoint")[0] == 404
    assert send(server, "PUT", "/add-checkpoint", b"x")[0] == 501
    assert send(server, "POST", "/add-checkpoint", b"x" * 65_537)[0] == 413
    assert send(server, "POST", "/add-checkpoint", b"x" * 65_536)[0] == 400
    for length in ("-1", "1e3", "٣", ""):
        with socket.create_connection(server.server_address[:2], timeout=5) as raw:  # type: ignore[arg-type]
            raw.sendall(f"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
            assert b" 411 " in raw.recv(1000)
    with socket.create_connection(server.server_address[:2], timeout=5) as raw:  # type: ignore[arg-type]
        raw.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert b" 411 " in raw.recv(1000)


def test_a_prefix_belongs_to_the_path(witness: Witness) -> None:
    with running(witness, "/risk/w1") as server:
        assert send(server, "POST", "/add-checkpoint", LOG.request(0, 8))[0] == 404
        assert send(server, "POST", "/risk/w1/add-checkpoint", LOG.request(0, 8))[0] == 200
        assert collect(LOG.note(9), [remote(server)], LOG.proof).findings[0].verdict is Verdict.COSIGNED
    for prefix in ("w", "/w/", "/w w", "/é"):
        with pytest.raises(NoteError):
            WitnessServer(witness, port=0, prefix=prefix)


def test_stopping_lets_a_request_in_flight_end(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, real = threading.Event(), witness.add_checkpoint

    def slow(body: bytes) -> Response:
        inside.set()
        time.sleep(0.3)
        return real(body)

    monkeypatch.setattr(witness, "add_checkpoint", slow)
    with ThreadPoolExecutor() as pool:
        with running(witness) as server:
            answer = pool.submit(send, server, "POST", "/add-checkpoint", LOG.request(0, 8))
            inside.wait(5)
        assert answer.result()[0] == 200


def test_a_half_sent_request_and_too_many_connections_do_not_block_others(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.ledger.witness import server as module

    monkeypatch.setattr(module, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(module._Handler, "timeout", 0.3)
    with running(witness) as server:
        address = ("127.0.0.1", int(server.server_address[1]))
        held = [socket.create_connection(address) for _ in range(4)]
        for connection in held:
            connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Le")
        deadline = time.monotonic() + 5
        status = 0
        while status != 200 and time.monotonic() < deadline:
            try:
                status = send(server, "POST", "/add-checkpoint", LOG.request(0, 8))[0]
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        assert status == 200
        for connection in held:
            connection.close()


def test_a_client_that_drips_neither_keeps_its_place_nor_holds_up_the_stop(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.ledger.witness import server as module

    def drip(connection: socket.socket) -> float:
        """Send a byte now and then; return how long the server bore it."""
        started = time.monotonic()
        connection.settimeout(0.05)
        connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 60000\r\n\r\n")
        while time.monotonic() - started < 8:
            try:
                connection.sendall(b"x")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        return time.monotonic() - started

    monkeypatch.setattr(module, "MAX_AGE_S", 0.4)
    with running(witness) as server, socket.create_connection(("127.0.0.1", int(server.server_address[1]))) as old:
        assert 0.1 < drip(old) < 3  # the server's clock began at the connection, a little before ours
    monkeypatch.setattr(module, "MAX_AGE_S", 60)
    with ThreadPoolExecutor() as pool:
        with running(witness) as server:
            new = socket.create_connection(("127.0.0.1", int(server.server_address[1])))
            dripping = pool.submit(drip, new)
            time.sleep(0.3)
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 3
        assert dripping.result() < 5
        new.close()


def test_logs_hold_no_bodies_and_no_control_characters(server: WitnessServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "cognify.witness"):
        send(server, "POST", "/add-checkpoint", LOG.request(0, 8))
        send(server, "POST", "/add-checkpoint", b"old 0\n\nsecret-\x1b[2J\n")
        send(server, "POST", "/add-checkpoint", FORK.request(8, 8))
        send(server, "GET", "/%0aforged-line")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == f"POST 200 origin={ORIGIN} size=8"
    assert "FORK" in lines[2]
    assert caplog.records[2].levelno == logging.ERROR
    text = "".join(lines)
    assert text.isprintable()
    assert "secret" not in text
    assert "forged" not in text
    assert "— " not in text


# ---- the command


def test_the_command_runs_stops_and_remembers(tmp_path: Path) -> None:
    (tmp_path / "trust.txt").write_text(f"log {LOG.key}\nquorum none\n")
    cognify = [sys.executable, "-m", "cognify_dagster.cli", "witness"]
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*cognify, *words], cwd=tmp_path, env=root, capture_output=True, text=True, check=False)

    made = call("new-key", "--name", "risk.bank.example/w1", "--key", "w.key", "--state", "w.db")
    assert made.returncode == 0, made.stderr
    vkey = re.search(r"risk\S+\+[0-9a-f]{8}\+\S+", made.stdout)
    assert vkey is not None
    assert vkey[0] in call("show-key", "w.key").stdout
    assert "PRIVATE" not in made.stdout
    assert call("new-key", "--name", "x.example/w", "--key", "w.key", "--state", "x.db").returncode == 5
    assert call("run", "--key", "w.key", "--state", "w.db").returncode == 5
    assert call("run", "--key", "w.key", "--state", "lost.db", "--log", str(LOG.key)).returncode == 3

    process = subprocess.Popen(
        [*cognify, "run", "--key", "w.key", "--state", "w.db", "--trust", "trust.txt", "--port", "0"],
        cwd=tmp_path, env=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None
        assert urlsplit(url[0]).hostname == "127.0.0.1"
        trust = TrustFile.parse(f"log {LOG.key}\nwitness W1 {vkey[0]} {url[0]}\nquorum W1\n")
        assert TrustFile.parse(trust.text()) == trust
        assert remotes(trust) == [Remote("W1", trust.witnesses[0][1], url[0])]
        got = collect(LOG.note(8), remotes(trust), LOG.proof)
        assert evaluate(trust, got.note).level == "L2"
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stopped" in out
    assert f"size={8}" in err
    assert ORIGIN in call("status", "--key", "w.key", "--state", "w.db").stdout
    assert '"size": 8' in call("status", "--key", "w.key", "--state", "w.db", "--json").stdout


# ---- the client


def test_a_client_without_memory_needs_two_questions_and_one_with_memory_one(server: WitnessServer) -> None:
    asked: list[tuple[int, int]] = []

    def proofs(old: int, new: int) -> list[bytes]:
        asked.append((old, new))
        return LOG.proof(old, new)

    first = collect(LOG.note(8), [remote(server)], proofs)
    (finding,) = first.findings
    assert (finding.verdict, finding.size, finding.time, asked) == (Verdict.COSIGNED, 8, NOW, [])
    assert first.note.startswith(LOG.note(8))
    assert collect(LOG.note(13), [remote(server)], proofs).findings[0].verdict is Verdict.COSIGNED
    assert asked == [(8, 13)]
    assert collect(LOG.note(21), [remote(server)], proofs, known={"W1": 13}).findings[0].size == 21
    assert asked == [(8, 13), (13, 21)]
    wrong = collect(LOG.note(22), [remote(server)], proofs, known={"W1": 99})  # harmless
    assert wrong.findings[0].verdict is Verdict.COSIGNED


def test_the_note_with_cosignatures_verifies_and_is_not_asked_for_again(server: WitnessServer) -> None:
    got = collect(LOG.note(8), [remote(server)], LOG.proof)
    trust = TrustFile.parse(f"log {LOG.key}\nwitness W1 {server.witness.key.verifier}\nquorum W1\n")
    assert evaluate(trust, got.note).level == "L2"
    assert verify_note(got.note, [LOG.key])[1] == (LOG.key,)
    server.witness.store.path.unlink()  # whoever asks now gets no answer
    again = collect(got.note, [remote(server)], LOG.proof)
    assert again.note == got.note
    assert again.findings[0].verdict is Verdict.COSIGNED
    broken = got.note.replace("\n8\n", "\n9\n")
    with pytest.raises(NoteError, match="does not verify"):
        collect(broken, [remote(server)], LOG.proof)


def test_case_17_a_rolled_back_ledger_is_found(server: WitnessServer) -> None:
    collect(LOG.note(21), [remote(server)], LOG.proof)
    (finding,) = collect(LOG.note(8), [remote(server)], LOG.proof, current_size=lambda: 8).findings
    assert (finding.verdict, finding.size, finding.alarming) == (Verdict.ROLLED_BACK, 21, True)
    assert "rolled back" in str(finding)
    (slow,) = collect(LOG.note(8), [remote(server)], LOG.proof, current_size=lambda: 25).findings
    assert (slow.verdict, slow.alarming) == (Verdict.SUPERSEDED, False)  # a slower process of a healthy ledger


def test_case_14_a_rewritten_ledger_is_found(server: WitnessServer) -> None:
    collect(LOG.note(21), [remote(server)], LOG.proof)
    for size in (21, 30):
        got = collect(FORK.note(size), [remote(server)], FORK.proof)
        assert (got.findings[0].verdict, got.findings[0].alarming) == (Verdict.FORKED, True)
        assert got.note == FORK.note(size)


def test_the_witnesss_head_is_a_proof_of_the_rollback(server: WitnessServer) -> None:
    assert fetch_head(remote(server), ORIGIN, [LOG.key]) is None
    collect(LOG.note(21), [remote(server)], LOG.proof)
    got = fetch_head(remote(server), ORIGIN, [LOG.key])
    assert got is not None
    assert got[0] == LOG.head(21)
    assert got[2] == NOW
    with pytest.raises(NoteError):
        fetch_head(remote(server), ORIGIN, [Log(key="other").key])
    with pytest.raises(NoteError, match="cosignature"):
        fetch_head(Remote("W2", cosigner("w2.example/w"), server.url), ORIGIN, [LOG.key])
    with pytest.raises(LedgerError, match="404"):
        fetch_head(remote(server), "other.example/x", [LOG.key])
    with pytest.raises(LedgerError, match="URL"):
        fetch_head(Remote("W1", cosigner("w"), "file:///etc/passwd"), ORIGIN, [LOG.key])


# ---- witnesses that fail or lie


@contextmanager
def lying(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self) -> None:
            answer(self, b"")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def plain(status: int, body: bytes, kind: str = "text/plain") -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
        handler.end_headers()
        handler.wfile.write(body)

    return answer


W9 = "w9.example/w"
LINE = cosign(LOG.head(8).text(), W9, private(W9), NOW)
OTHER_HEAD = cosign(LOG.head(7).text(), W9, private(W9), NOW)
OTHER_KEY = cosign(LOG.head(8).text(), W9, private("other"), NOW)
OTHER_NAME = cosign(LOG.head(8).text(), "w8.example/w", private("w8.example/w"), NOW)
SIZE = "text/x.tlog.size"


@pytest.mark.parametrize(
    ("status", "body", "kind", "verdict"),
    [
        (200, LINE.encode(), "text/plain", Verdict.COSIGNED),
        (200, (OTHER_NAME + LINE).encode(), "text/plain", Verdict.COSIGNED),
        (200, b"", "text/plain", Verdict.FAILED),
        (200, OTHER_HEAD.encode(), "text/plain", Verdict.FAILED),
        (200, OTHER_KEY.encode(), "text/plain", Verdict.FAILED),
        (200, OTHER_NAME.encode(), "text/plain", Verdict.FAILED),
        (200, b"\n\n" + LINE.encode(), "text/plain", Verdict.FAILED),
        (200, b"more text\n\n" + LINE.encode(), "text/plain", Verdict.FAILED),
        (200, b"\xff\x00", "text/plain", Verdict.FAILED),
        (200, LINE.encode()[:-1], "text/plain", Verdict.FAILED),
        (200, LINE.encode() * 2000, "text/plain", Verdict.FAILED),
        (302, b"", "text/plain", Verdict.FAILED),
        (403, b"no", "text/plain", Verdict.FAILED),
        (404, b"no", "text/plain", Verdict.FAILED),
        (429, b"\x1b[2Jslow down", "text/plain", Verdict.FAILED),
        (500, b"oops", "text/plain", Verdict.FAILED),
        (409, b"0\n", SIZE, Verdict.FAILED),  # says no to the size it says it has
        (409, b"5\n", SIZE, Verdict.FAILED),  # and again
        (409, b"x\n", SIZE, Verdict.FAILED),
        (409, b"05\n", SIZE, Verdict.FAILED),
        (409, b"9" * 5000 + b"\n", SIZE, Verdict.FAILED),
        (409, b"9\n", SIZE + "; charset=utf-8", Verdict.ROLLED_BACK),
        (409, b"the roots differ\n", "text/plain", Verdict.FORKED),
        (422, b"bad proof\n", "text/plain", Verdict.FORKED),
    ],
)
def test_no_answer_gets_into_the_note_unverified(status: int, body: bytes, kind: str, verdict: Verdict) -> None:
    with lying(plain(status, body, kind)) as url:
        got = collect(LOG.note(8), [Remote("W9", cosigner(W9), url)], LOG.proof, timeout=5)
    (finding,) = got.findings
    assert finding.verdict is verdict
    assert got.note == LOG.note(8) + (LINE if verdict is Verdict.COSIGNED else "")
    assert str(finding).isprintable()
    assert len(str(finding)) < 400


def test_a_failing_witness_does_not_stop_the_others(server: WitnessServer) -> None:
    def drip(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            return

    with socket.socket() as silent, lying(drip) as dripping:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hangs = f"http://127.0.0.1:{silent.getsockname()[1]}"
        witnesses = [
            Remote("hangs", cosigner("h"), hangs),
            Remote("drips", cosigner("d"), dripping),
            Remote("gone", cosigner("g"), "http://127.0.0.1:1"),
            Remote("wrong", LOG.key, server.url),
            Remote("file", cosigner("f"), "file:///etc/passwd"),
            remote(server),
        ]
        started = time.monotonic()
        got = collect(LOG.note(8), witnesses, LOG.proof, timeout=3)  # enough for the sound one's disk
        assert time.monotonic() - started < 8, "the one that drips does so for ten seconds"
    assert [finding.verdict for finding in got.findings] == [Verdict.FAILED] * 5 + [Verdict.COSIGNED]
    assert [finding.witness for finding in got.findings] == ["hangs", "drips", "gone", "wrong", "file", "W1"]
    assert len(parse_note(got.note).signatures) == 2
    assert not any(finding.alarming for finding in got.findings)


def test_a_ledger_that_cannot_prove_is_reported(server: WitnessServer) -> None:
    from cognify_dagster.ledger import ProofError

    collect(LOG.note(8), [remote(server)], LOG.proof)

    def none(old: int, new: int) -> list[bytes]:
        raise ProofError("nodes are missing")

    (finding,) = collect(LOG.note(13), [remote(server)], none).findings
    assert finding.verdict is Verdict.FAILED
    assert "nodes are missing" in finding.message


def test_many_clients_of_one_growing_ledger_never_alarm(server: WitnessServer) -> None:
    """Case 48 in small: honest processes that race for cosignatures give no rollback and no fork."""
    current = [1]
    lock = threading.Lock()

    def client(_: int) -> list[Verdict]:
        verdicts = []
        for _ in range(8):
            with lock:
                current[0] = size = min(current[0] + 1, 40)
            verdicts.append(
                collect(LOG.note(size), [remote(server)], LOG.proof, current_size=lambda: current[0])
                .findings[0]
                .verdict
            )
        return verdicts

    with ThreadPoolExecutor(4) as pool:
        verdicts = [verdict for found in pool.map(client, range(4)) for verdict in found]
    assert set(verdicts) <= {Verdict.COSIGNED, Verdict.SUPERSEDED, Verdict.FAILED}
    assert Verdict.COSIGNED in verdicts
    assert verdicts.count(Verdict.FAILED) <= 2
