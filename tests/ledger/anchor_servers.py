"""Real servers for anchor tests: a time stamp authority made of `openssl ts`, and an S3 server with object lock."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_TSA = """
[tsa]
default_tsa = t
[t]
dir = .
serial = ./serial
crypto_device = builtin
signer_cert = ./tsa.pem
certs = ./chain.pem
signer_key = ./tsa.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = yes
ess_cert_id_chain = no
"""
_EXTENSIONS = {
    "good": "extendedKeyUsage=critical,timeStamping",
    "not_critical": "extendedKeyUsage=timeStamping",
    "no_eku": "keyUsage=critical,digitalSignature",
}


class Authority:
    """A certification authority with a time stamping certificate below it, in a folder."""

    def __init__(self, folder: Path, name: str = "root", usage: str = "good", days: int = 30) -> None:
        self.folder = folder / f"{name}-{usage}"
        self.folder.mkdir()
        self.hits = 0
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days),
                      "-keyout", "ca.key", "-out", "ca.pem", "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "tsa.key",
                      "-out", "tsa.csr", "-subj", f"/CN={name} tsa")  # fmt: skip
        (self.folder / "ext").write_text(_EXTENSIONS[usage] + "\n")
        self._openssl("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days",
                      str(days), "-out", "tsa.pem", "-extfile", "ext")  # fmt: skip
        (self.folder / "tsa.cnf").write_text(_TSA)
        (self.folder / "serial").write_text("01\n")
        shutil.copy(self.folder / "ca.pem", self.folder / "chain.pem")

    @property
    def root_pem(self) -> bytes:
        return (self.folder / "ca.pem").read_bytes()

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def reply(self, query: bytes) -> bytes:
        """What `openssl ts -reply` answers to a query."""
        self.hits += 1
        (self.folder / "query").write_bytes(query)
        self._openssl("ts", "-reply", "-config", "tsa.cnf", "-section", "t", "-queryfile", "query", "-out", "reply")
        return (self.folder / "reply").read_bytes()

    def resign(self, reply: bytes) -> bytes:
        """A reply with the content of another authority's, signed with this one's certificate, whatever that is for."""
        (self.folder / "theirs").write_bytes(reply)
        self._openssl("ts", "-reply", "-in", "theirs", "-token_out", "-out", "theirs.token")
        self._openssl("cms", "-verify", "-noverify", "-inform", "DER", "-in", "theirs.token", "-out", "tstinfo")
        self._openssl("cms", "-sign", "-binary", "-nodetach", "-in", "tstinfo", "-econtent_type", "1.2.840.113549.1.9.16.1.4",
                      "-cades", "-signer", "tsa.pem", "-inkey", "tsa.key", "-md", "sha256", "-outform", "DER",
                      "-out", "mine.token")  # fmt: skip
        self._openssl("ts", "-reply", "-in", "mine.token", "-token_in", "-out", "mine")
        return (self.folder / "mine").read_bytes()

    def openssl_verifies(self, token: bytes, data: bytes) -> bool:
        """Whether OpenSSL, an independent implementation, verifies a token over data."""
        (self.folder / "token").write_bytes(token)
        (self.folder / "data").write_bytes(data)
        done = subprocess.run(
            ["openssl", "ts", "-verify", "-data", "data", "-in", "token", "-CAfile", "ca.pem"],
            cwd=self.folder, capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode == 0


@contextmanager
def tsa_server(answer: object) -> Iterator[str]:
    """Serve a function from query bytes to (status, reply bytes) as an RFC 3161 authority over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/timestamp-query"
            status, body = answer(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[operator]
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/tsa"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


S3_KEY, S3_SECRET = "testkey", "testsecret"


def weed_program() -> str | None:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def _free_port() -> int:
    """A port whose +10000 sibling is a valid port, too: the server's gRPC ports lie there."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port
        with socket.socket() as probe:
            port -= 20_000
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def s3_server() -> Iterator[str]:
    """Run SeaweedFS on loopback, without telemetry, in a folder of its own; yield its S3 endpoint."""
    program = weed_program()
    assert program is not None
    folder = Path(tempfile.mkdtemp(prefix="weed-"))
    identity = {"name": "test", "credentials": [{"accessKey": S3_KEY, "secretKey": S3_SECRET}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    s3, master, volume, filer = (_free_port() for _ in range(4))
    words = [
        program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        f"-master.port={master}", f"-volume.port={volume}", "-volume.max=200", "-filer", f"-filer.port={filer}",
        f"-filer.localSocket={folder}/f.sock", "-s3", f"-s3.port={s3}", f"-s3.config={folder}/s3.json",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, cwd=folder, env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
        )
    endpoint = f"http://127.0.0.1:{s3}"
    try:
        deadline = time.monotonic() + 60
        while not _answers(endpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.2)
        yield endpoint
    finally:
        process.kill()
        process.wait()
        for port in (s3, master, volume, filer):  # it places these sockets there, whatever the environment says
            for left in (
                *Path("/tmp").glob(f"seaweedfs-*-{port}.sock"),
                *Path("/tmp").glob(f"seaweedfs-*-{port + 10000}.sock"),
            ):
                left.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
