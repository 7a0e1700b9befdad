"""Ways to tell people something: e-mail through SMTP, or a command of the project's own. Knows nothing of what is told.

Invariants: a password comes from a variable or a file, never from `cognify.toml`, and stands in no message, log or error; mail
goes over TLS unless the server is this machine; a command is a list of arguments, run without a shell, with the message as
JSON on its standard input; whatever a message quotes from people goes into the text only, with control characters removed.
"""

from __future__ import annotations

import json
import os
import re
import smtplib
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any, Protocol

from cognify_dagster.workspace.config import WorkspaceConfig, WorkspaceError

TIMEOUT_S = 10.0
LINES_A_MESSAGE = 200
LINE_LENGTH = 2000
_HERE = ("localhost", "127.0.0.1", "::1")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_EMAIL_KEYS = {
    "kind", "name", "host", "port", "from", "tls", "ca_file", "username", "password_env", "password_file", "events",
}  # fmt: skip
_COMMAND_KEYS = {"kind", "name", "command", "events", "timeout"}


class DeliveryError(RuntimeError):
    """A message could not be handed over; it holds no secret, and trying again later is right."""


class DeliveryUnclear(DeliveryError):
    """Nobody knows whether the message was taken: it was handed over, and the answer was lost. Trying again may send it twice."""


@dataclass(frozen=True)
class Message:
    """What one person is told at one time. `address` is an e-mail address, None where none is known; `id` names the message, so
    that the same one sent twice has one Message-ID.
    """

    person: str
    name: str
    address: str | None
    subject: str
    lines: tuple[str, ...]
    items: tuple[Mapping[str, Any], ...] = ()
    id: str = ""

    @property
    def text(self) -> str:
        """The body: bounded, one line an item, without control characters."""
        lines = [clean(line) for line in self.lines[:LINES_A_MESSAGE]]
        left = len(self.lines) - len(lines)
        return "\n".join([*lines, *([f"… and {left} more"] if left else [])]) + "\n"


def clean(text: str) -> str:
    """Return a text on one line, bounded, without control characters."""
    return _CONTROL.sub(" ", " ".join(text.split()))[:LINE_LENGTH]


class Channel(Protocol):
    """A way to tell people."""

    @property
    def name(self) -> str:
        """Its name in `cognify.toml`."""
        ...

    @property
    def events(self) -> frozenset[str]:
        """The kinds of news it carries; empty: all."""
        ...

    def reaches(self, message: Message) -> bool:
        """Whether this channel can tell that person at all."""
        ...

    def send(self, message: Message) -> None:
        """Hand a message over.

        Raises:
            DeliveryError: if it was not taken.
        """
        ...


class _Plain(smtplib.SMTP):
    """A connection that knows whether a mail's text was begun to be handed over."""

    handing = False

    def data(self, msg: Any) -> Any:
        """Hand over the text."""
        self.handing = True
        return super().data(msg)


class _Tls(smtplib.SMTP_SSL):
    """The same over TLS from the first byte."""

    handing = False

    def data(self, msg: Any) -> Any:
        """Hand over the text."""
        self.handing = True
        return super().data(msg)


@dataclass(frozen=True)
class EmailChannel:
    """Mail through an SMTP server. `tls`: starttls, tls (from the first byte) or none (this machine only)."""

    name: str
    host: str
    port: int
    sender: str
    tls: str = "starttls"
    ca_file: Path | None = None
    username: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    events: frozenset[str] = frozenset()

    def reaches(self, message: Message) -> bool:
        """Whether the person has an address that can stand in a header."""
        return message.address is not None and _ADDRESS.fullmatch(message.address) is not None

    def send(self, message: Message) -> None:
        """Send one mail.

        Raises:
            DeliveryError: if the server cannot be reached, trusted, or does not take it.
            DeliveryUnclear: if the server has the mail, but its answer was lost.
        """
        mail = self._mail(message)
        server: _Plain | _Tls | None = None
        taken = False
        try:
            with self._connect() as server:
                if self.username is not None:
                    server.login(self.username, self._password())
                server.send_message(mail)
                taken = True
        except smtplib.SMTPAuthenticationError as error:
            raise DeliveryError(f"{self._place}: the server refused the login of {self.username}") from error
        except (smtplib.SMTPException, OSError) as error:
            if taken:
                return  # the server has it, and only the goodbye failed
            lost = server is not None and server.handing and not isinstance(error, smtplib.SMTPResponseException)
            kind = DeliveryUnclear if lost else DeliveryError
            raise kind(f"{self._place}: {clean(_said(error))}") from error

    @property
    def _place(self) -> str:
        return f"notify {self.name!r} ({self.host}:{self.port})"

    def _mail(self, message: Message) -> EmailMessage:
        assert message.address is not None  # see `reaches`
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self.sender
        user, _, domain = message.address.rpartition("@")
        mail["To"] = Address(display_name=clean(message.name)[:100], username=user, domain=domain)
        mail["Subject"] = clean(message.subject)[:200]
        mail["Date"] = formatdate()
        domain = self.sender.rpartition("@")[2].strip("> ") or "localhost"
        mail["Message-ID"] = f"<{message.id}@{domain}>" if message.id else make_msgid(domain=domain)
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        return mail

    def _connect(self) -> _Plain | _Tls:
        context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        if self.tls == "tls":
            return _Tls(self.host, self.port, timeout=TIMEOUT_S, context=context)
        server = _Plain(self.host, self.port, timeout=TIMEOUT_S)
        if self.tls == "starttls":
            try:
                server.starttls(context=context)
            except BaseException:
                server.close()
                raise
        return server

    def _password(self) -> str:
        if self.password_env is not None:
            found = os.environ.get(self.password_env)
            if not found:
                raise DeliveryError(f"{self._place}: the variable {self.password_env} is not set")
            return found
        assert self.password_file is not None  # the configuration demands one of the two
        try:
            return self.password_file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DeliveryError(f"{self._place}: {self.password_file} cannot be read") from error


def _said(error: Exception) -> str:
    """What went wrong, without the text of a dialogue that could hold credentials."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return "the server refused the recipient"
    return type(error).__name__ if isinstance(error, smtplib.SMTPException) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class CommandChannel:
    """A program of the project's own, such as one that posts to a chat. It gets the message as JSON on standard input."""

    name: str
    command: tuple[str, ...]
    folder: Path
    timeout_s: float = TIMEOUT_S
    events: frozenset[str] = field(default_factory=frozenset)

    def reaches(self, message: Message) -> bool:
        """Always: whom it can tell is the program's business."""
        return True

    def send(self, message: Message) -> None:
        """Run the program once.

        Raises:
            DeliveryError: if it cannot be run, takes too long or ends with another status than 0.
        """
        value = {
            "person": message.person,
            "name": clean(message.name),
            "address": message.address,
            "subject": clean(message.subject),
            "text": message.text,
            "items": [dict(item) for item in message.items],
        }
        try:
            done = subprocess.run(
                self.command,
                input=json.dumps(value, ensure_ascii=True).encode(),
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self.timeout_s,
                check=False,
                shell=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeliveryError(f"notify {self.name!r}: the command took longer than {self.timeout_s:g} s") from error
        except OSError as error:
            raise DeliveryError(f"notify {self.name!r}: the command cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            raise DeliveryError(f"notify {self.name!r}: the command ended with status {done.returncode}")


def channels(config: WorkspaceConfig, events: frozenset[str]) -> list[Channel]:
    """Return the channels of the `[[notify]]` tables. `events`: the kinds of news there are.

    Raises:
        WorkspaceError: naming the table and the field that is wrong.
    """
    found: list[Channel] = []
    for number, table in enumerate(config.notify, 1):
        where = f"{config.path}: [[notify]] number {number}"
        kind = table.get("kind")
        if kind not in ("email", "command"):
            raise WorkspaceError(f"{where}: kind must be one of command, email")
        known = _EMAIL_KEYS if kind == "email" else _COMMAND_KEYS
        unknown = sorted(set(table) - known)
        if unknown:
            raise WorkspaceError(f"{where}: unknown field {unknown[0]!r}; it may have {', '.join(sorted(known))}")
        name = table.get("name", f"{kind}-{number}")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise WorkspaceError(f"{where}: name must be up to 40 of a-z 0-9 _ -")
        if any(item.name == name for item in found):
            raise WorkspaceError(f"{where}: two [[notify]] tables have the name {name!r}; give each its own")
        wanted = frozenset(_texts(where, table, "events", []))
        if wanted - events:
            raise WorkspaceError(
                f"{where}: there is no event {sorted(wanted - events)[0]!r}; there are {', '.join(sorted(events))}"
            )
        make = _email if kind == "email" else _command
        found.append(make(where, name, table, wanted, config.path.parent))
    return found


def _email(where: str, name: str, table: Mapping[str, Any], events: frozenset[str], base: Path) -> Channel:
    host, tls = _text(where, table, "host"), _text(where, table, "tls", "starttls")
    if tls not in ("starttls", "tls", "none"):
        raise WorkspaceError(f"{where}: tls must be one of none, starttls, tls")
    if tls == "none" and host not in _HERE:
        raise WorkspaceError(f'{where}: tls = "none" is for a server on this machine; {host} needs starttls or tls')
    port = table.get("port", {"starttls": 587, "tls": 465, "none": 25}[tls])
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65_536:
        raise WorkspaceError(f"{where}: port must be a number from 1 to 65535")
    sender = _text(where, table, "from")
    if not _ADDRESS.fullmatch(sender):
        raise WorkspaceError(f"{where}: from must be an e-mail address")
    username = _text(where, table, "username") if "username" in table else None
    given = [key for key in ("password_env", "password_file") if key in table]
    if len(given) != (1 if username else 0):
        raise WorkspaceError(
            f"{where}: a username goes with one of password_env and password_file, and they with a username"
        )
    return EmailChannel(
        name=name,
        host=host,
        port=port,
        sender=sender,
        tls=tls,
        ca_file=base / _text(where, table, "ca_file") if "ca_file" in table else None,
        username=username,
        password_env=_text(where, table, "password_env") if "password_env" in table else None,
        password_file=base / _text(where, table, "password_file") if "password_file" in table else None,
        events=events,
    )


def _command(where: str, name: str, table: Mapping[str, Any], events: frozenset[str], base: Path) -> Channel:
    command = _texts(where, table, "command", None)
    timeout = table.get("timeout", TIMEOUT_S)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 60:
        raise WorkspaceError(f"{where}: timeout must be a number of seconds, at most 60")
    return CommandChannel(name, command, base, float(timeout), events)


def _text(where: str, table: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not value:
        raise WorkspaceError(f"{where}: {key} must be text")
    return value


def _texts(where: str, table: Mapping[str, Any], key: str, default: list[str] | None) -> tuple[str, ...]:
    value = table.get(key, default)
    if (
        not isinstance(value, list)
        or (default is None and not value)
        or not all(isinstance(i, str) and i for i in value)
    ):
        raise WorkspaceError(f"{where}: {key} must be a list of texts")
    return tuple(value)
