"""People are told what waits for them and owners what happened: once each, by a real mail server and a real program."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import ssl
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from cognify_dagster.governance import (
    Choice,
    Condition,
    ReleaseBlocked,
    complete,
    live_state,
    open_finding,
    request_release,
    sign_off,
)
from cognify_dagster.governance.oversight.news import EVENTS, news
from cognify_dagster.governance.oversight.notifier import Memory, Told, due_news, read_memory, tell
from cognify_dagster.governance.release.suspension import record_suspension
from cognify_dagster.records import ReleaseSuspended
from cognify_dagster.workspace import WorkspaceError, load_config
from cognify_dagster.workspace.notify import Channel, CommandChannel, DeliveryError, EmailChannel, Message, channels
from tests.governance.world import MODEL, World, clone

TARGETS: dict[str, dict[str, tuple[str, ...]]] = {MODEL: {"production": ()}}
SECRET = "the-password-of-the-mail-server"


class Inbox:
    """A real SMTP server that keeps what it was given, and refuses while `broken`."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.tls: list[bool] = []
        self.broken = False

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.broken:
            return "451 come back later"
        self.tls.append(session.ssl is not None)
        self.mails.append(email.message_from_bytes(envelope.content or b"", policy=email.policy.default))  # type: ignore[arg-type]
        return "250 taken"

    def login(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == SECRET.encode(), handled=False)

    def take(self) -> dict[str, EmailMessage]:
        """Mails since the last call, by recipient; at most one each."""
        found = {str(mail["To"]): mail for mail in self.mails}
        assert len(found) == len(self.mails)
        self.mails.clear()
        return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, with its key in the same file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def free_port() -> int:
    """aiosmtpd cannot say which port it was given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def plain(inbox: Inbox) -> Iterator[EmailChannel]:
    """A channel to a server on this machine without TLS."""
    port = free_port()
    server = Controller(inbox, hostname="127.0.0.1", port=port)
    server.start()
    yield EmailChannel("mail", "127.0.0.1", port, "cognify@bank.example", tls="none")
    server.stop()


@pytest.fixture
def secure(inbox: Inbox, certificate: Path, tmp_path: Path) -> Iterator[EmailChannel]:
    """A channel with STARTTLS and a login."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    port = free_port()
    server = Controller(
        inbox, hostname="localhost", port=port, tls_context=context, authenticator=inbox.login, auth_required=True
    )
    server.start()
    secret = tmp_path / "smtp.secret"
    secret.write_text(SECRET + "\n")
    yield EmailChannel(
        "mail", "localhost", port, "cognify@bank.example", ca_file=certificate, username="bot", password_file=secret
    )
    server.stop()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A version that waits, in a workspace whose people have addresses, except Carl."""
    from tests.governance.world import make_world

    world = make_world(tmp_path_factory.mktemp("base"))
    world.enrol("nora", "model_validator", aliases=("mail:nora@bank.example",))
    world.enrol("otto", "business_owner", aliases=("mail:otto@bank.example", "team:risk"))
    world.ready("1")
    return world


@pytest.fixture
def world(base: World, tmp_path: Path) -> World:
    return clone(base, tmp_path / "world")


def now(days: float = 0) -> datetime:
    return datetime.now(timezone.utc) + timedelta(days=days)


def go(world: World, memory: Memory, *ways: Channel, at: datetime | None = None) -> Told:
    reading, moment = world.workspace.read(), at or now()
    return tell(reading, due_news(reading, TARGETS, memory, moment), ways, memory, moment)


def release(world: World) -> None:
    world.approve_all()
    grant = request_release(world.workspace, MODEL, "1", "production", "run-1", "person/ben")
    complete(world.workspace, grant, location="", detail={})


def test_who_may_sign_next_is_told_once_and_then_whose_turn_it_is(world: World, inbox: Inbox, plain: EmailChannel):
    memory = Memory()
    told = go(world, memory, plain)
    assert not told.failed
    assert told.unreachable == ("person/vera",)
    (mail,) = inbox.take().values()
    assert mail["To"] == "Nora <nora@bank.example>"
    assert mail["Subject"].startswith(f"[test.example/credit] {MODEL} 1 waits for your sign-off for production")
    assert "Independent validation" in mail.get_content()
    assert f"cognify sign {MODEL} 1" in mail.get_content()
    assert not go(world, memory, plain).sent
    world.approve("vera")
    assert not go(world, memory, plain).sent  # Carl has no address
    world.approve("carl")
    go(world, memory, plain)
    assert list(inbox.take()) == ["Otto <otto@bank.example>"]


def test_one_digest_a_person_and_time(world: World, inbox: Inbox, plain: EmailChannel):
    memory = Memory()
    go(world, memory, plain)
    inbox.take()
    with pytest.raises(ReleaseBlocked):
        request_release(world.workspace, MODEL, "1", "production", "run-0", "person/ben")
    facts: dict[str, Any] = {
        "model": MODEL,
        "version": "1",
        "severity": "low",
        "title": "A typing\r\nBcc: x@y.example error",
    }
    open_finding(world.workspace, world.key("vera"), **facts)
    go(world, memory, plain)
    (mail,) = inbox.take().values()
    assert mail["To"] == "Otto <otto@bank.example>"  # the model's owner is team:risk, an alias of Otto
    assert mail["Subject"].endswith(f"2 news about {MODEL}")
    assert "was refused: " in mail.get_content()
    assert "Vera found about" in mail.get_content()
    assert mail["Bcc"] is None
    assert not go(world, memory, plain).sent


def test_released_suspended_and_what_falls_due_is_told_to_the_owner(world: World, inbox: Inbox, plain: EmailChannel):
    memory = Memory(since=world.workspace.read().size)
    due = (now(40)).strftime("%Y-%m-%dT%H:%M:%SZ")
    terms = (Condition(text="Monitor drift", kind="monitoring", due=due),)
    world.approve("vera")
    sign_off(world.workspace, MODEL, "1", world.key("carl"), Choice("approve_with_conditions", conditions=terms))
    world.approve("olga")
    grant = request_release(world.workspace, MODEL, "1", "production", "run-1", "person/ben")
    complete(world.workspace, grant, location="", detail={})
    go(world, memory, plain)
    assert "went live on production" in inbox.take()["Otto <otto@bank.example>"].get_content()
    go(world, memory, plain, at=now(30))
    assert "the condition of Carl on" in inbox.take()["Otto <otto@bank.example>"].get_content()
    go(world, memory, plain, at=now(41))
    text = inbox.take()["Otto <otto@bank.example>"].get_content()
    assert "is suspended on production" in text
    assert "was due" in text
    go(world, memory, plain, at=now(340))
    told = inbox.take()
    assert "the periodic review of" in told["Nora <nora@bank.example>"].get_content()
    assert "the periodic review of" in told["Otto <otto@bank.example>"].get_content()
    assert not go(world, memory, plain, at=now(340)).sent


def test_what_a_server_does_not_take_is_tried_again_and_told_once(world: World, inbox: Inbox, plain: EmailChannel):
    memory = Memory(since=world.workspace.read().size)
    inbox.broken = True
    with pytest.raises(ReleaseBlocked):
        request_release(world.workspace, MODEL, "1", "production", "run-0", "person/ben")
    told = go(world, memory, plain)
    assert len(told.failed) == 2
    assert "the server answered 451" in told.failed[0]
    inbox.broken = False
    memory = read_memory(memory.to_json())
    assert not go(world, memory, plain).sent  # not at once
    assert not go(world, memory, plain).failed
    later = now(0.01)
    assert len(go(world, memory, plain, at=later).sent) == 2
    assert len(inbox.take()) == 2
    assert not go(world, memory, plain, at=later).sent
    assert memory.since == world.workspace.read().size


def test_a_server_that_is_gone_stops_nothing(world: World, tmp_path: Path):
    gone = EmailChannel("mail", "127.0.0.1", 9, "cognify@bank.example", tls="none")
    out = tmp_path / "told.jsonl"
    told = go(world, Memory(), gone, command(out))
    assert len(told.failed) == 1
    assert {message.person for message in told.sent} == {"person/vera", "person/nora"}


def test_mail_goes_over_tls_with_a_login_and_the_password_stands_nowhere(
    world: World, inbox: Inbox, secure: EmailChannel, tmp_path: Path
):
    memory = Memory()
    assert not go(world, memory, secure).failed
    assert inbox.tls == [True]
    assert inbox.logins == [(b"bot", SECRET.encode())]
    assert SECRET not in memory.to_json()
    assert secure.password_file is not None
    secure.password_file.write_text("wrong-" + SECRET)
    told = go(world, Memory(), secure)
    assert "refused the login of bot" in told.failed[0]
    assert SECRET not in repr(told)
    assert SECRET not in repr(secure)


def test_a_server_with_a_certificate_nobody_trusts_gets_no_password(world: World, inbox: Inbox, secure: EmailChannel):
    from dataclasses import replace

    told = go(world, Memory(), replace(secure, ca_file=None))
    assert "CERTIFICATE_VERIFY_FAILED" in told.failed[0]
    assert inbox.logins == []


def command(out: Path, name: str = "hook", events: frozenset[str] = frozenset()) -> CommandChannel:
    program = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    return CommandChannel(name, (sys.executable, "-c", program, str(out), "; echo no shell"), out.parent, events=events)


def test_a_command_gets_json_on_standard_input_and_no_shell(world: World, tmp_path: Path):
    out, memory = tmp_path / "told.jsonl", Memory()
    go(world, memory, command(out))
    go(world, memory, command(out))
    values = [json.loads(line) for line in out.read_text().splitlines()]
    assert {value["person"] for value in values} == {"person/vera", "person/nora"}
    assert values[0]["items"][0]["event"] == "waiting"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["told.jsonl"]


@pytest.mark.parametrize(
    ("argv", "timeout_s", "said"),
    [
        ((sys.executable, "-c", "import sys; sys.exit(3)"), 60, "ended with status 3"),  # to start may take a while
        (("no-such-program-anywhere",), 60, "cannot be run"),
        ((sys.executable, "-c", "import time; time.sleep(9)"), 0.5, "took longer than 0.5 s"),
    ],
)
def test_a_command_that_fails_is_said(world: World, tmp_path: Path, argv: tuple[str, ...], timeout_s: float, said: str):
    told = go(world, Memory(), CommandChannel("hook", argv, tmp_path, timeout_s=timeout_s))
    assert said in told.failed[0]
    assert not told.sent


def test_a_channel_may_carry_some_events_only(world: World, tmp_path: Path):
    out = tmp_path / "told.jsonl"
    told = go(world, Memory(), command(out, events=frozenset({"released"})))
    assert not told.sent


def test_after_three_failures_the_rest_waits_for_the_next_time(world: World, tmp_path: Path):
    tried: list[str] = []

    class Broken:
        name, events = "broken", frozenset[str]()

        def reaches(self, message: Message) -> bool:
            return True

        def send(self, message: Message) -> None:
            tried.append(message.person)
            raise DeliveryError("no")

    for name in ("pia", "pit", "pam"):
        world.enrol(name, "model_validator")
    go(world, Memory(), Broken())
    assert len(tried) == 3


def test_the_first_time_nothing_old_is_told(world: World, tmp_path: Path):
    release(world)
    assert not go(world, Memory(), command(tmp_path / "out")).sent


def test_a_delegate_is_told_too(world: World):
    from cognify_dagster.governance import delegate

    world.enrol("dana", "auditor")
    by = world.key("vera")
    delegate(world.workspace, "person/dana", "model_validator", by, expires=now(5), reason="holidays")
    (item,) = [
        item for item in news(world.workspace.read(), MODEL, TARGETS[MODEL], now(), 10_000) if item.event == "waiting"
    ]
    assert set(item.people) == {"person/vera", "person/nora", "person/dana"}


def test_a_suspension_is_on_record_once_for_a_set_of_reasons(world: World):
    release(world)
    assert record_suspension(world.workspace, live_state(world.workspace.read(), MODEL, "production", now())) is None
    sign_off(world.workspace, MODEL, "1", world.key("carl"), Choice("block", comments="complaints"))
    state = live_state(world.workspace.read(), MODEL, "production", now())
    assert record_suspension(world.workspace, state) is not None
    assert record_suspension(world.workspace, state) is None
    assert record_suspension(world.workspace, live_state(world.workspace.read(), MODEL, "production", now())) is None
    (entry,) = world.workspace.read().all(ReleaseSuspended)
    assert "complaints" in entry.record.reasons[0]


def configured(tmp_path: Path, text: str) -> list[Channel]:
    path = tmp_path / "cognify.toml"
    path.write_text('[workspace]\norigin = "test.example/x"\n' + text)
    return channels(load_config(path), EVENTS)


def test_the_configuration_makes_channels(tmp_path: Path):
    found = configured(
        tmp_path,
        '[[notify]]\nkind = "email"\nhost = "mail.bank.example"\nfrom = "c@bank.example"\nusername = "u"\npassword_env = "X"\n'
        '[[notify]]\nkind = "command"\ncommand = ["./tell", "--json"]\nevents = ["suspended"]\n',
    )
    assert [item.name for item in found] == ["email-1", "command-2"]
    assert isinstance(found[0], EmailChannel)
    assert (found[0].port, found[0].tls) == (587, "starttls")
    assert found[1].events == {"suspended"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('kind = "fax"', "kind must be one of command, email"),
        ('kind = "email"\nfrom = "a@b.example"', "host must be text"),
        ('kind = "email"\nhost = "h"\nfrom = "a b"', "from must be an e-mail address"),
        ('kind = "email"\nhost = "h"\nfrom = "a@b.example"\ntls = "none"', "is for a server on this machine"),
        ('kind = "email"\nhost = "h"\nfrom = "a@b.example"\nusername = "u"', "goes with one of password_env and"),
        ('kind = "email"\nhost = "h"\nfrom = "a@b.example"\npassword = "x"', "unknown field 'password'"),
        ('kind = "email"\nhost = "h"\nfrom = "a@b.example"\nport = 0', "port must be a number"),
        ('kind = "command"\ncommand = "rm -rf /"', "command must be a list of texts"),
        ('kind = "command"\ncommand = []', "command must be a list of texts"),
        ('kind = "command"\ncommand = ["x"]\nevents = ["gossip"]', "there is no event 'gossip'"),
        ('kind = "command"\ncommand = ["x"]\ntimeout = 600', "timeout must be a number"),
    ],
)
def test_a_wrong_table_is_named_with_its_field(tmp_path: Path, table: str, said: str):
    with pytest.raises(WorkspaceError, match=r"\[\[notify\]\] number 1") as caught:
        configured(tmp_path, f"[[notify]]\n{table}\n")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"since": "x", "told": 3}', '{"failures": {"a": 1}}'])
def test_a_broken_memory_is_an_empty_one(text: str):
    assert read_memory(text).told == set()


def test_a_message_leads_to_the_page_where_it_is_read_and_signed(world: World):
    from dataclasses import replace
    from functools import partial

    from cognify_dagster.governance.oversight.notifier import digest
    from cognify_dagster.workspace import review_page

    reading = world.workspace.read()
    items = news(reading, MODEL, TARGETS[MODEL], now(), 10_000)
    config = replace(world.workspace.config, review={"url": "https://review.bank.example"})
    told = digest(reading, "person/vera", [*items, *items], partial(review_page, config))
    link = f"https://review.bank.example/models/{MODEL}/1"
    assert told.lines.count(link) == 1, "once, below the last news about that page"
    assert [item["url"] for item in told.items] == [link] * len(told.items)
    silent = digest(reading, "person/vera", items, partial(review_page, world.workspace.config))
    assert "https://" not in silent.text
    assert all("url" not in item for item in silent.items)
