"""The table [review.oidc], the HTTP to the issuer, and the two commands."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cognify_dagster.cli.app import main as cli
from cognify_dagster.governance import directory, mapping_in_force
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.identity.oidc.bounds import MAX_ANSWER
from cognify_dagster.review.identity.oidc.config import OidcConfig, oidc_config
from cognify_dagster.review.identity.oidc.http import IssuerError, exchange, get_json
from tests.governance.issuer import CLIENT, ISSUER
from tests.governance.world import PASSPHRASE, World, clone

GOOD = {"issuer": ISSUER, "client_id": CLIENT}


def test_a_table_has_sensible_defaults() -> None:
    found = oidc_config(ReviewConfig(oidc=GOOD))
    assert found == OidcConfig(ISSUER, CLIENT)
    assert oidc_config(ReviewConfig()) is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"issuer": ""}, "issuer: must be"),
        ({"issuer": "http://login.bank.example"}, "https://"),
        ({"issuer": "https://u:p@login.bank.example"}, "issuer: must be"),
        ({"issuer": "https://login.bank.example?x=1"}, "issuer: must be"),
        ({"issuer": 7}, "wrong type"),
        ({"client_id": ""}, "client_id: is missing"),
        ({"client_secret": "hunter2"}, "stands in the environment"),
        ({"client_secret": "env:COGNIFY_NOT_SET"}, "COGNIFY_NOT_SET is not set"),
        ({"scopes": ["a b"]}, "scopes: must be a list of words"),
        ({"ca_file": "/nowhere.pem"}, "there is no such file"),
        ({"verify": False}, "verify: is unknown"),
    ],
)
def test_a_mistake_is_named_and_no_secret_with_it(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ReviewError, match=text) as caught:
        oidc_config(ReviewConfig(oidc={**GOOD, **change}))
    assert "hunter2" not in str(caught.value)


def test_the_secret_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OIDC_SECRET", "s3cret")
    found = oidc_config(ReviewConfig(oidc={**GOOD, "client_secret": "env:OIDC_SECRET", "scopes": ["email"]}))
    assert found is not None
    assert found.client_secret == "s3cret"
    assert "s3cret" not in repr(found)
    assert found.scopes == ("openid", "email")


# --- http ----------------------------------------------------------------------------------------------------------------


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        bodies = {
            "/long": b'"' + b"x" * (MAX_ANSWER + 1) + b'"',
            "/list": b"[]",
            "/text": b"<html>",
            "/good": b'{"a": 1}',
        }
        moved = self.path == "/moved"
        self.send_response(302 if moved else 200 if self.path in bodies else 500)
        if moved:
            self.send_header("Location", "/good")
        self.end_headers()
        self.wfile.write(bodies.get(self.path, b""))

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"access_token": "x", "token_type": "Bearer"}' if self.path == "/token" else b"[]")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_address[1]}"
    found.shutdown()
    found.server_close()


def test_of_an_answer_only_a_json_object_of_bounded_size_is_taken(server: str) -> None:
    config = OidcConfig(server, CLIENT)
    assert get_json(config, server + "/good") == {"a": 1}
    for path in ("/moved", "/long", "/list", "/text", "/missing"):
        with pytest.raises(IssuerError):
            get_json(config, server + path)
    with pytest.raises(IssuerError, match="does not answer"):
        get_json(config, "http://127.0.0.1:9/")


def test_an_answer_without_an_id_token_is_an_error(server: str) -> None:
    for path, text in (("/token", "no ID token"), ("/list", "no token")):
        with pytest.raises(IssuerError, match=text):
            exchange(OidcConfig(server, CLIENT), server + path, "none", "http://localhost/cb", "code", "v" * 43)


# --- commands ------------------------------------------------------------------------------------------------------------


def run(world: World, *arguments: str) -> Any:
    signing = [f"--as={world.folder / name}.key.json" for name in ("ada", "finn")]
    command = [f"--workspace={world.folder / 'project'}", "review", *arguments, *signing, "--yes"]
    return CliRunner().invoke(cli, command, env={"COGNIFY_PASSPHRASE": PASSPHRASE})


def test_groups_are_mapped_from_a_file(founded_template: World, tmp_path: Path) -> None:
    world = clone(founded_template, tmp_path / "world")
    file = tmp_path / "groups.yaml"
    file.write_text(f"issuer: {ISSUER}\ngroups:\n  Risk: [model_validator]\n")
    result = run(world, "map-groups", str(file), "--reason=as agreed")
    assert result.exit_code == 0, result.output
    found = mapping_in_force(world.workspace.read(), ISSUER)
    assert found is not None
    assert dict(found.groups) == {"Risk": ("model_validator",)}
    file.write_text("groups: {}\n")
    assert run(world, "map-groups", str(file), "--reason=x").exit_code != 0


def test_an_identity_is_enrolled_beside_the_keys(founded_template: World, tmp_path: Path) -> None:
    world = clone(founded_template, tmp_path / "world")
    line, where = f"oidc:{ISSUER}|00u1", [f"--issuer={ISSUER}", f"--client-id={CLIENT}"]
    result = run(world, "enrol-sso", "person/vera", f"--subject={line}", *where)
    assert result.exit_code == 0, result.output
    assert "00u1" in result.output
    reading = world.workspace.read()
    keys = directory(reading).valid_keys("person/vera", reading.size).values()
    assert sorted(key.strength for key in keys) == ["S2", "S3"]
    assert {key.oidc.subject for key in keys if key.oidc} == {"00u1"}


def test_somebody_new_may_have_no_other_key(founded_template: World, tmp_path: Path) -> None:
    world = clone(founded_template, tmp_path / "world")
    where = ["--subject=00u2", f"--issuer={ISSUER}", f"--client-id={CLIENT}"]
    assert run(world, "enrol-sso", "person/nora", *where).exit_code != 0
    assert run(world, "enrol-sso", "person/vera", "--name=Vera", "--role=auditor", *where).exit_code != 0
    result = run(world, "enrol-sso", "person/nora", "--name=Nora", "--role=model_validator", *where)
    assert result.exit_code == 0, result.output
    reading = world.workspace.read()
    assert [key.strength for key in directory(reading).valid_keys("person/nora", reading.size).values()] == ["S2"]
