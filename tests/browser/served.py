"""The review site as its own process over a workspace that tests prepared, and ways past its login for tests of other pages."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.sync_api import Browser

from cognify_dagster.governance import PersonalKey, enrol_person, rotated
from cognify_dagster.review.app import open_site
from cognify_dagster.review.config import review_config
from cognify_dagster.review.identity.accounts import add_account
from cognify_dagster.review.identity.passkeys import keep_passkey
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.accounts import Account, find_account
from cognify_dagster.review.store.sessions import open_session
from cognify_dagster.review.visit import cookie_name
from cognify_dagster.workspace import Workspace
from tests.browser.chromium import Someone, someone
from tests.governance.world import PASSPHRASE
from tests.review.authenticator import Authenticator
from tests.review.site_world import vouched_key

ROOT = Path(__file__).resolve().parents[2]
REVIEW = """
[review]
url = "{url}"
port = {port}
contact = "model-risk@bank.example"
dagster_url = "{dagster_url}"

[review.oidc]
issuer = "https://login.bank.example"
client_id = "review"
name = "your bank account"
"""
SERVED: list[Served] = []
"""The sites that run now."""


@dataclass
class Served:
    """A running site.

    Args:
        folder: the project folder of its workspace.
        url: its address.
        keys: people's key files, by name.
        browser: the browser that its visitors use.
    """

    folder: Path
    url: str
    keys: dict[str, PersonalKey]
    browser: Browser
    windows: list[Someone] = field(default_factory=list)

    @cached_property
    def site(self) -> Site:
        """The same site as this process sees it: workspace and database."""
        workspace = Workspace.open(self.folder)
        return open_site(workspace, review_config(workspace.config))

    @property
    def log(self) -> str:
        """What the site's process said so far."""
        return (self.folder / "review.log").read_text(encoding="utf-8", errors="replace")

    def visitor(self, **settings: Any) -> Someone:
        """A browser window in which nobody is signed in."""
        found = someone(self.browser, self.url, **settings)
        self.windows.append(found)
        return found

    def signed_in(self, name: str, **settings: Any) -> Someone:
        """A window in which a person is signed in already: a session was written for them."""
        found = self.visitor(**settings)
        self.sign_in(found, self.account(name))
        return found

    def sign_in(self, window: Someone, account: Account) -> None:
        """Give a window the cookie of a new session."""
        key = vouched_key(self.site, account)
        with self.site.store.begin() as connection:
            token = open_session(
                connection, account.id, "passkey", int(time.time()), 12, "127.0.0.1", "tests", credential=key
            )
        cookie = {"name": cookie_name(self.site), "value": token, "url": self.url, "httpOnly": True, "sameSite": "Lax"}
        window.context.add_cookies([cookie])  # type: ignore[list-item]

    def account(self, name: str) -> Account:
        """The account of a person, made if there is none."""
        with self.site.store.begin() as connection:
            found = find_account(connection, person=f"person/{name}")
            return found or add_account(connection, name, int(time.time()), person=f"person/{name}")

    def give_passkey(self, window: Someone, name: str, *, vouched: bool = True) -> Authenticator:
        """Put a passkey of a person into a window's security key: registered with the site and, if vouched, enrolled to sign with."""
        account = self.account(name)
        made = Authenticator(origin=self.url, rp_id="localhost", user_handle=account.id.encode())
        with self.site.store.begin() as connection:
            keep_passkey(connection, account.id, made.public, "test key", int(time.time()))
        if vouched:
            person = rotated(self.site.read(), f"person/{name}", made.public, False)
            vouchers = [who for who in ("ada", "finn", "carl") if who != name][:2]
            enrol_person(self.site.workspace, person, *(self.keys[who] for who in vouchers))
        private = made.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        credential = {
            "credentialId": base64.b64encode(made.credential).decode(), "isResidentCredential": True, "rpId": "localhost",
            "privateKey": base64.b64encode(private).decode(), "signCount": 1,
            "userHandle": base64.b64encode(made.user_handle).decode(),
        }  # fmt: skip
        assert window.devtools is not None
        window.devtools.send(
            "WebAuthn.addCredential", {"authenticatorId": window.authenticator, "credential": credential}
        )
        return made

    def cognify(self, *arguments: str, stdin: str = "") -> str:
        """Run a `cognify` command in the project folder; people's pass phrases are at hand. Return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "cognify_dagster.cli", *arguments],
            cwd=self.folder, env=environment(), input=stdin, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"cognify {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def close_windows(self) -> None:
        """Close what a test opened; a complaint of a page's scripts fails it."""
        complaints = [text for window in self.windows for text in window.complaints]
        for window in self.windows:
            window.context.close()
        self.windows.clear()
        assert not complaints, complaints


def environment() -> dict[str, str]:
    """The environment of the site's process and of commands."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COGNIFY_", "DAGSTER_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "COGNIFY_PASSPHRASE": PASSPHRASE, "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(folder: Path, keys: dict[str, PersonalKey], browser: Browser, *, dagster_url: str = "") -> Iterator[Served]:
    """Run `cognify review serve` on a free port until the block ends; its links to runs lead to `dagster_url`."""
    port = free_port()
    url = f"http://localhost:{port}"
    settings = folder / "cognify.toml"
    founded = settings.read_text(encoding="utf-8").partition("\n[review]")[0]
    settings.write_text(founded + REVIEW.format(url=url, port=port, dagster_url=dagster_url), encoding="utf-8")
    log = (folder / "review.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "cognify_dagster.cli", "review", "serve"],
        cwd=folder, env=environment(), stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    found = Served(folder, url, keys, browser)
    SERVED.append(found)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).read()
                break
            except (OSError, urllib.error.URLError):
                assert process.poll() is None, found.log
                assert time.monotonic() < deadline, f"the site did not start: {found.log}"
                time.sleep(0.2)
        yield found
    finally:
        SERVED.remove(found)
        process.terminate()
        process.wait(timeout=30)
        log.close()
        if "site" in found.__dict__:
            found.site.store.close()
