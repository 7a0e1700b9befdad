"""A site whose people have addresses, a real mail server on this machine, and a clock that tests may set."""

from __future__ import annotations

import email
import email.policy
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from cognify_dagster.governance import adopt_policy, policy_in_force
from cognify_dagster.review.reminders.jobs import run_reminders
from cognify_dagster.review.store.sessions import open_session
from cognify_dagster.workspace import Workspace
from tests.governance.world import World, clone
from tests.review.site_world import Client, SiteWorld, make_site_world, vouched_key

SIGN_OFF_DAYS = 5


class Post:
    """A mail server that keeps what it was given. `answer` is what it says to a mail; None: it hangs up without a word."""

    def __init__(self) -> None:
        with socket.socket() as probe:  # aiosmtpd cannot say which port it was given
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.mails: list[EmailMessage] = []
        self.answer: str | None = "250 taken"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answer is not None and not self.answer.startswith("250"):
            return self.answer
        self.mails.append(email.message_from_bytes(envelope.content or b"", policy=email.policy.default))  # type: ignore[arg-type]
        if self.answer is None:
            server.transport.abort()
            return "421 gone"
        return self.answer

    def take(self) -> dict[str, EmailMessage]:
        """Mails since the last call, by recipient's address; at most one each."""
        found = {mail["To"].addresses[0].addr_spec: mail for mail in self.mails}
        assert len(found) == len(self.mails)
        self.mails.clear()
        return found


@pytest.fixture
def post() -> Iterator[Post]:
    found = Post()
    server = Controller(found, hostname="127.0.0.1", port=found.port)
    server.start()
    yield found
    server.stop()


class Clock:
    """The site's clock, ahead of the real one by as much as a test likes."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + self.ahead

    def advance(self, **amount: float) -> None:
        self.ahead += timedelta(**amount)

    def to_hour(self, hour: int, days: int = 0) -> None:
        """Go on to the next time it is that hour and 30 minutes (UTC), and so many days further."""
        now = self.now()
        then = now.replace(hour=hour, minute=30, second=0)
        self.ahead += then + timedelta(days=days + (then <= now)) - now


def limit(world: World, days: int | None) -> None:
    """Adopt the policy with a time within which stages should be signed."""
    policy = policy_in_force(world.workspace.read()).policy
    tiers = {name: tier.model_copy(update={"sign_off_days": days}) for name, tier in policy.tiers.items()}
    adopt_policy(
        world.workspace, policy.model_copy(update={"tiers": tiers}), "deadlines", [world.key("ada"), world.key("finn")]
    )


def configure(world: World, text: str) -> None:
    """Add to a workspace's cognify.toml and open it anew."""
    path = world.folder / "project" / "cognify.toml"
    path.write_text(path.read_text(encoding="utf-8") + "\n" + text, encoding="utf-8")
    world.workspace = Workspace.open(world.folder / "project")


def mail_table(port: int, more: str = "") -> str:
    """A [[notify]] table for a server on this machine."""
    return (
        f'[[notify]]\nkind = "email"\nname = "post"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n'
        f'from = "cognify@bank.example"\n{more}\n'
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mailed(ready_template: World, tmp_path: Path, post: Post, clock: Clock) -> Iterator[SiteWorld]:
    """Version 1 waits for Vera or Nora to validate it, within five days. Nora and the admin Mia have addresses."""
    world = clone(ready_template, tmp_path / "world")
    configure(world, mail_table(post.port))
    world.enrol("nora", "model_validator", aliases=("mail:nora@bank.example",))
    world.enrol("mia", "workspace_admin", aliases=("mail:mia@bank.example",))
    limit(world, SIGN_OFF_DAYS)
    found = make_site_world(world)
    found.site.now = clock.now  # type: ignore[method-assign]
    yield found
    found.site.store.close()


def visitor(found: SiteWorld, name: str) -> Client:
    """A browser in which a person has just signed in, by the site's clock."""
    account = found.account(name)
    key, now = vouched_key(found.site, account), int(found.site.now().timestamp())
    with found.site.store.begin() as connection:
        token = open_session(connection, account.id, "passkey", now, 12, "testclient", "tests", credential=key)
    return Client(found.site, found.app, token)


def run(found: SiteWorld) -> float | None:
    """What the job in the background does."""
    return run_reminders(found.site)
