"""A workspace whose ledger is in Postgres, from `cognify ledger init` to restore: the same commands, the same verdicts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cognify_dagster.ledger import RolledBack
from cognify_dagster.workspace import Workspace
from tests.cli.conftest import Cognify, key_file
from tests.cli.test_cli_verify import grow
from tests.conformance.postgres_server import shared_server
from tests.governance.world import World

pytestmark = pytest.mark.postgres
ORIGIN = "test.example/credit"


@dataclass
class Database:
    """A schema with a login that has every role of the ledger."""

    schema: str
    login: str

    @property
    def admin(self) -> str:
        return shared_server().url()

    @property
    def url(self) -> str:
        return f"{shared_server().url(user=self.login)}&schema={self.schema}"


def new_database(cognify: Cognify) -> Database:
    made = Database("c" + uuid.uuid4().hex[:10], "u" + uuid.uuid4().hex[:10])
    shared_server().execute(f"CREATE ROLE {made.login} LOGIN PASSWORD 'tres-secret'")
    grants = [w for role in ("writer", "signer", "eraser", "archivist") for w in ("--grant", f"{role}={made.login}")]
    done = cognify("ledger", "init", "--url", made.admin, "--origin", ORIGIN, "--schema", made.schema, *grants)
    assert done.code == 0, done.err
    return made


def drop(made: Database) -> None:
    shared_server().execute(
        *(f"DROP EVENT TRIGGER IF EXISTS {made.schema}_guard_{kind}" for kind in ("ddl", "drop")),
        f"DROP SCHEMA IF EXISTS {made.schema} CASCADE",
        f"DROP SCHEMA IF EXISTS {made.schema}_guard CASCADE",
        f"DROP ROLE {made.login}",
        *(f"DROP ROLE {made.schema}_{role}" for role in ("owner", "writer", "reader", "signer", "eraser", "archivist")),
    )


@pytest.fixture
def database(cognify: Cognify) -> Iterator[Database]:
    made = new_database(cognify)
    yield made
    drop(made)


@pytest.fixture
def second(cognify: Cognify) -> Iterator[Database]:
    made = new_database(cognify)
    yield made
    drop(made)


@pytest.fixture
def project(
    ready: World, database: Database, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A workspace founded on Postgres."""
    monkeypatch.setenv("LEDGER_URL", database.url)
    founders = [w for n in ("ada", "finn") for w in ("--founder", f"{n.title()}={key_file(ready, n)}")]
    made = cognify("init", tmp_path / "pg", "--ledger-url", "env:LEDGER_URL", *founders, "--yes")
    assert made.code == 0, made.err
    return tmp_path / "pg"


def test_init_says_what_to_write_and_never_the_password(cognify: Cognify, database: Database) -> None:
    again = cognify("ledger", "init", "--url", database.admin, "--origin", ORIGIN, "--schema", database.schema)
    assert again.code == 0
    assert f"{database.schema}_writer" in again.out
    assert 'ledger = "env:COGNIFY_LEDGER_URL"' in again.out
    other = cognify("ledger", "init", "--url", database.admin, "--origin", "a.example/b", "--schema", database.schema)
    assert other.code == 3
    assert ORIGIN in other.err
    secret = "postgresql://me:tres-secret@127.0.0.1:1/x?connect_timeout=1"
    away = cognify("ledger", "init", "--url", secret, "--origin", ORIGIN)
    assert away.code == 3
    assert "tres-secret" not in away.out + away.err
    assert cognify("ledger", "init", "--url", "env:NOT_SET_AT_ALL", "--origin", ORIGIN).code == 3
    assert cognify("ledger", "init", "--url", database.admin, "--origin", ORIGIN, "--grant", "king=me").code == 5
    written = cognify("init", "x", "--ledger-url", secret, "--trial", "--founder", "A=b")
    assert written.code == 5
    assert "tres-secret" not in written.out + written.err


def test_a_workspace_on_postgres_works_end_to_end(
    project: Path, database: Database, cognify: Cognify, tmp_path: Path, ready: World
) -> None:
    assert not (project / ".cognify" / "ledger.sqlite").exists()
    assert 'ledger = "env:LEDGER_URL"' in (project / "cognify.toml").read_text()
    at = ("--workspace", project)
    vera = cognify(
        "people", "enrol", "--name", "Vera", "--role", "model_validator", "--public-key", key_file(ready, "vera"),
        "--as", key_file(ready, "ada"), "--as", key_file(ready, "finn"), "--yes", *at,
    )  # fmt: skip
    assert vera.code == 0, vera.err
    report = cognify("ledger", "verify", "--json", *at).json
    assert (report["exit_code"], report["level"], report["size"], report["uncovered"]) == (0, "L1", 2, 0)
    assert cognify("ledger", "verify", "--processes", 2, *at).code == 0
    trust = project / "trust.txt"
    assert cognify("ledger", "verify", "--url", "env:LEDGER_URL", "--trust", trust).code == 0
    assert cognify("ledger", "show", *at).code == 0
    doctor = cognify("doctor", "--no-dagster", "--json", *at)
    assert doctor.code == 0, doctor.out
    assert "postgres" in {check["name"] for check in doctor.json["checks"]}
    refused = cognify("init", tmp_path / "again", "--ledger-url", "env:LEDGER_URL", "--trial", "--founder",
                      f"Ada={key_file(ready, 'ada')}", "--yes")  # fmt: skip
    assert refused.code == 3
    assert "has 2 entries already" in refused.err
    assert not (tmp_path / "again" / ".cognify.partial").exists()
    upgraded = cognify("upgrade", "--json", *at)
    assert upgraded.code == 0, upgraded.err
    assert upgraded.json["outcome"] == "holds"


@pytest.fixture
def third(cognify: Cognify) -> Iterator[Database]:
    made = new_database(cognify)
    yield made
    drop(made)


def test_backup_restore_and_replay_between_postgres_ledgers(
    project: Path, second: Database, third: Database, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--workspace", project)
    assert cognify("ledger", "backup", tmp_path / "old", *at).code == 0
    world = World(Workspace.open(project), project.parent)
    grow(world, 3)
    assert cognify("ledger", "checkpoint", *at).code == 0
    assert cognify("ledger", "dump", tmp_path / "new", *at).code == 0
    over = cognify("ledger", "restore", tmp_path / "old", *at)
    assert over.code == 3
    assert "already" in over.err
    size = Workspace.open(project).ledger.size()
    monkeypatch.setenv("LEDGER_URL", second.url)
    old = cognify("ledger", "restore", tmp_path / "old", *at)
    assert old.code == 2, old.err
    assert "cognify ledger replay" in old.out
    with pytest.raises(RolledBack):
        grow(world, 1, prefix="refused")
    assert cognify("ledger", "replay", tmp_path / "new", *at).code == 5, "another empty ledger is needed"
    monkeypatch.setenv("NEW_URL", third.url)
    done = cognify("ledger", "replay", tmp_path / "new", "--to", "env:NEW_URL", *at)
    assert done.code == 0, done.err
    assert 'ledger = "env:NEW_URL"' in done.out
    monkeypatch.setenv("LEDGER_URL", third.url)
    report = cognify("ledger", "verify", "--json", *at).json
    assert (report["exit_code"], report["size"]) == (0, size + 1)
    grow(world, 1, prefix="open-again")


def test_a_sqlite_ledger_moves_to_postgres(
    ready: World, database: Database, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.workspace.ledger.sign_checkpoint()
    before = cognify("ledger", "verify", "--json", at=ready).json
    monkeypatch.setenv("LEDGER_URL", database.url)
    moved = cognify("ledger", "copy", "--to", "env:LEDGER_URL", at=ready)
    assert moved.code == 0, moved.err
    assert 'ledger = "env:LEDGER_URL"' in moved.out
    path = ready.workspace.config.path
    path.write_text(path.read_text(encoding="utf-8") + 'ledger = "env:LEDGER_URL"\n', encoding="utf-8")
    ready.workspace.config.ledger.unlink()
    assert cognify("ledger", "verify", "--json", at=ready).json == before
    grow(ready, 1)
    assert cognify("ledger", "checkpoint", at=ready).code == 0
    seq = ready.data["train"]
    erased = cognify(
        "erase", "--seq", seq, "--basis", "request", "--as", key_file(ready, "carl"), "--as", key_file(ready, "ada"),
        "--yes", at=ready,
    )  # fmt: skip
    assert erased.code == 0, erased.err
    assert cognify("ledger", "verify", "--json", at=ready).json["erased_payloads"] == 1
    assert cognify("status", "credit_default", at=ready).code == 0
    full = cognify("ledger", "copy", "--to", "env:LEDGER_URL", at=ready)
    assert full.code == 3
