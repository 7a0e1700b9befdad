"""The site as docs/deploy.md sets it up: ledger and site's database in Postgres, each login with no more than it needs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError

from cognify_dagster.cli import main
from cognify_dagster.records import AccessLogged, SignOff
from cognify_dagster.review.access.anchoring import anchor
from cognify_dagster.review.access.log import flush
from cognify_dagster.review.app import open_site
from cognify_dagster.review.config import review_config
from cognify_dagster.review.store.sessions import hash_token, sessions
from cognify_dagster.review.store.webhooks import outbox
from cognify_dagster.review.visit import cookie_name
from cognify_dagster.review.webhooks.outbox import WAITING, due
from cognify_dagster.workspace import Workspace
from tests.conformance.postgres_server import shared_server
from tests.governance.conftest import founded_template, ready_template
from tests.governance.world import MODEL, PASSPHRASE, World, clone
from tests.review.signing.journeys import SIGN, prepared, signed
from tests.review.site_world import Client, SiteWorld

__all__ = ["founded_template", "ready_template"]
pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("site_on_postgres")]
ROOT = Path(__file__).resolve().parents[2]
URL = "https://review.bank.example"
SETTINGS = f"""
[review]
url = "{URL}"
database = "env:COGNIFY_REVIEW_DATABASE"
proxies = ["127.0.0.1"]

[review.oidc]
issuer = "https://login.bank.example"
client_id = "review"
"""
PAGES = (
    "/", "/models", f"/models/{MODEL}", f"/models/{MODEL}/1", SIGN, "/acts", "/datasets", "/datasets/loans_train", "/ledger",
    "/ledger/entries/3", "/ledger/checkpoints", "/people", "/people/vera", "/policy", "/access", "/access/batches", "/account", "/grants",
    "/oidc", "/tokens", "/webhooks", f"/models/{MODEL}/1/sections", "/models/export.csv", "/readyz",
)  # fmt: skip


@dataclass
class Deployed:
    """A workspace on Postgres and the logins of its processes.

    Args:
        world: the people and their keys; its workspace is opened as the site's process opens it.
        schema: where the ledger is.
        pipeline, review: the logins of code location and site; each owns a database of its name.
        variables: the environment of the site's process.
    """

    world: World
    schema: str
    pipeline: str
    review: str
    variables: dict[str, str]

    def url(self, login: str) -> str:
        """The ledger's address for a login."""
        return f"{shared_server().url(user=login)}&schema={self.schema}"

    def as_login(self, login: str, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as one of the logins."""
        return shared_server().execute(f"SET search_path = {self.schema}", statement, user=login, database=database)


def command(*arguments: object, folder: Path) -> str:
    """Run a `cognify` command that must work."""
    words = ["--workspace", str(folder), *map(str, arguments)]
    done = CliRunner().invoke(main, words, env={"COGNIFY_PASSPHRASE": PASSPHRASE}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def deployed(ready_template: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Version 1 waits for its first signature; its ledger was moved to Postgres."""
    server, name = shared_server(), uuid.uuid4().hex[:8]
    pipeline, review = f"pipeline_{name}", f"review_{name}"
    server.execute(f"CREATE ROLE {pipeline} LOGIN", f"CREATE ROLE {review} LOGIN")
    for login in (pipeline, review):
        server.execute(f"CREATE DATABASE {login} OWNER {login}", f"REVOKE CONNECT ON DATABASE {login} FROM PUBLIC")
    world = clone(ready_template, tmp_path_factory.mktemp("deployed") / "world")
    folder, schema = world.folder / "project", f"s{name}"
    found = Deployed(world, schema, pipeline, review, {})
    found.variables = {
        "COGNIFY_LEDGER_URL": found.url(review),
        "COGNIFY_REVIEW_DATABASE": server.url(review, review),
    }
    grants = [
        word for login in (pipeline, review) for role in ("writer", "signer") for word in ("--grant", f"{role}={login}")
    ]
    with pytest.MonkeyPatch.context() as patch:
        for key, value in found.variables.items():
            patch.setenv(key, value)
        command(
            "ledger",
            "init",
            "--url",
            server.url(),
            "--origin",
            "test.example/credit",
            "--schema",
            schema,
            *grants,
            folder=folder,
        )
        server.execute(f"GRANT {schema}_archivist TO {pipeline}")  # for the move, and no longer
        patch.setenv("MOVE_URL", found.url(pipeline))
        command("ledger", "copy", "--to", "env:MOVE_URL", folder=folder)
        server.execute(f"REVOKE {schema}_archivist FROM {pipeline}")
        world.workspace.config.ledger.unlink()
        settings = folder / "cognify.toml"
        written = settings.read_text(encoding="utf-8").rstrip() + '\nledger = "env:COGNIFY_LEDGER_URL"\n' + SETTINGS
        settings.write_text(written, encoding="utf-8")
        world.workspace = Workspace.open(folder)
        yield found
    for login in (pipeline, review):
        server.execute(f"DROP DATABASE {login} WITH (FORCE)")


@pytest.fixture(scope="module")
def site(deployed: Deployed) -> Iterator[SiteWorld]:
    """The site over it, with its own login."""
    workspace = deployed.world.workspace
    found = SiteWorld(deployed.world, open_site(workspace, review_config(workspace.config)))
    yield found
    found.site.store.close()


def window(site: SiteWorld, name: str) -> Client:
    """A browser in which somebody is signed in at the site's public address."""
    found = site.client_for(name)
    token = found.token
    found.cookies.clear()
    found.cookies.set(cookie_name(site.site), token, domain="review.bank.example", path="/")
    return found


def test_every_page_answers_and_a_sign_off_is_recorded(site: SiteWorld) -> None:
    passkey = site.passkey("vera", origin=URL, rp_id="review.bank.example")
    vera, ada = window(site, "vera"), window(site, "ada")
    for address in PAGES:
        assert ada.get(address).status_code == 200, address
    answer = signed(vera, passkey, prepared(vera, decision="approve", stage="validation"))
    assert answer.status_code == 303, answer.text
    item = site.world.workspace.read().all(SignOff)[-1]
    assert (item.record.person, item.record.strength) == ("person/vera", "S4")
    assert vera.get(answer.headers["location"]).status_code == 200
    assert flush(site.site)
    logged = site.world.workspace.read().all(AccessLogged)
    batch = anchor(site.site)
    assert batch is not None
    assert len(site.world.workspace.read().all(AccessLogged)) == len(logged) + 1
    report = site.world.workspace.ledger.verify(site.world.workspace.trust())
    assert not report.findings
    assert report.level == "L1"


@dataclass
class Process:
    """A running `cognify review serve`."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, cookie: str = "") -> tuple[int, str]:
        """Ask it as the reverse proxy does; return status and text."""
        headers = {"Host": "review.bank.example", "X-Forwarded-For": "203.0.113.7", "Cookie": cookie}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def start(deployed: Deployed, log: Path) -> Process:
    """Start one as the container does, with nothing but the environment of compose.yaml."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = deployed.world.folder / "project"
    variables = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        **deployed.variables,
        "COGNIFY_WORKSPACE": str(folder),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "cognify_dagster.cli", "review", "serve", "--host", "0.0.0.0", "--port", str(port)],
            cwd=folder, env=variables, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    found, end = Process(port, process, log), time.monotonic() + 120
    while True:
        try:
            assert found.get("/readyz")[0] == 200
            return found
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise AssertionError(f"it ended with {process.poll()}: {log.read_text()}") from None
            time.sleep(0.2)


def test_two_processes_serve_one_site(site: SiteWorld, deployed: Deployed, tmp_path: Path) -> None:
    cookie = f"{cookie_name(site.site)}={site.client_for('ada').token}"
    assert cookie.startswith("__Host-")
    both = []
    try:
        for number in range(2):
            both.append(start(deployed, tmp_path / f"{number}.log"))
        for one in both:
            assert one.get("/healthz") == (200, "ok\n")
            status, text = one.get(f"/models/{MODEL}/1", cookie)
            assert status == 200
            assert "Sign out" in text
            assert one.get("/models")[0] in (200, 303, 401)
    finally:
        for one in both:
            one.process.send_signal(signal.SIGTERM)
        ended = [one.process.wait(timeout=30) for one in both]
    assert set(ended) <= {0, -signal.SIGTERM}, [one.log.read_text() for one in both]
    for one in both:
        assert "Traceback" not in one.log.read_text()
    kept = deployed.as_login(
        deployed.review, "SELECT count(*) FROM public.access_lines WHERE address = '203.0.113.7'", deployed.review
    )
    assert kept[0][0] >= 4, "what a process still held was written before it ended"


def test_the_sites_login_changes_no_table_of_the_ledger(deployed: Deployed) -> None:
    import psycopg

    tables = [
        row[0]
        for row in deployed.as_login(
            "postgres", f"SELECT tablename FROM pg_tables WHERE schemaname = '{deployed.schema}'"
        )
    ]
    assert {"entry", "payload", "checkpoint", "writer", "meta"} <= set(tables)
    for table in tables:
        for act in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                deployed.as_login(deployed.review, act)
    for act in ("CREATE TABLE more (x int)", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            deployed.as_login(deployed.review, act)


def test_the_sites_login_calls_what_appends_and_signs_and_no_more(deployed: Deployed) -> None:
    query = (
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = '{schema}'::regnamespace AND p.prosecdef "
        "AND has_function_privilege('{login}', p.oid, 'EXECUTE')"
    )
    found = deployed.as_login("postgres", query.format(schema=deployed.schema, login=deployed.review))
    assert {row[0] for row in found} == {
        "append", "append_batch", "append_members", "add_checkpoint",
        "ledger_derived",  # reads the derived tables
    }  # fmt: skip


def test_site_and_pipeline_do_not_reach_each_others_database(deployed: Deployed) -> None:
    import psycopg

    for login, database in ((deployed.pipeline, deployed.review), (deployed.review, deployed.pipeline)):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            deployed.as_login(login, "SELECT 1", database)


def test_an_error_of_the_server_tells_no_values(site: SiteWorld) -> None:
    token = site.client_for("ada").token
    row = {
        "token_hash": hash_token(token),
        "account": "x",
        "csrf": "x",
        "method": "x",
        "created": 0,
        "seen": 0,
        "ends": 0,
    }
    with pytest.raises(IntegrityError) as failed, site.site.store.begin() as connection:
        connection.execute(insert(sessions).values(**row))
    assert "duplicate key" in str(failed.value)
    assert hash_token(token) not in f"{failed.value!r} {failed.value} {failed.value.orig} {failed.value.orig!r}"


def test_messages_without_an_entry_are_sent_first_as_in_sqlite(site: SiteWorld) -> None:
    with site.site.store.begin() as connection:
        for message, seq in (("b", 7), ("c", None), ("a", 9)):
            connection.execute(
                insert(outbox).values(
                    id=message,
                    endpoint="none",
                    event=message,
                    created=1,
                    first=1,
                    due=1,
                    state=WAITING,
                    attempts=0,
                    seq=seq,
                    body="{}",
                )
            )
        assert [found.id for found in due(connection, ["none"], 2, 10)] == ["c", "b", "a"]
        connection.execute(delete(outbox).where(outbox.c.endpoint == "none"))
