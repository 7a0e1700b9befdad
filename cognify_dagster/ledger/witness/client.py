"""Collects cosignatures from witnesses (C2SP tlog-witness), stdlib urllib only.

Invariants: a cosignature is added to the note only after it verified under the key that the caller trusts for that witness;
nothing else a witness sends gets into the note; a witness that fails, lies or hangs is reported and never stops the others;
answers are bounded in size and time, and redirects are not followed. Whether the witnesses suffice is the policy's question.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from cognify_dagster.ledger.errors import LedgerError, NoteError, ProofError
from cognify_dagster.ledger.note import (
    COSIGNATURES,
    Checkpoint,
    Note,
    TrustFile,
    VerifierKey,
    open_checkpoint,
    parse_note,
)
from cognify_dagster.ledger.quorum import signature_line, verify_cosignature
from cognify_dagster.ledger.witness.request import SIZE_TYPE, AddCheckpoint

_MAX_ANSWER = 64 * 1024
_URL = r"https?://[^/\s]"
_ROUNDS = 8  # an honest client needs two; more only where other clients of the same ledger are faster
Proofs = Callable[[int, int], Sequence[bytes]]


class Verdict(Enum):
    """What became of asking one witness."""

    COSIGNED = "cosigned"
    FAILED = "failed"
    """No usable answer: unreachable, too late, misconfigured, or a cosignature that does not verify."""
    SUPERSEDED = "superseded"
    """It has a newer head already, and our ledger has grown that far, too: nothing is wrong, ask with the newer head."""
    ROLLED_BACK = "rolled_back"
    """It says that it cosigned a larger ledger than ours is now."""
    FORKED = "forked"
    """It says that what it cosigned is not contained in our checkpoint."""


@dataclass(frozen=True)
class Remote:
    """A witness to ask: its name in the policy, its cosignature key, its submission prefix (http or https URL)."""

    name: str
    key: VerifierKey
    url: str


def remotes(trust: TrustFile) -> list[Remote]:
    """Return the witnesses of a trust file that can be asked: those whose line has a URL."""
    urls = dict(trust.urls)
    return [Remote(name, key, urls[name]) for name, key in trust.witnesses if name in urls]


@dataclass(frozen=True)
class Finding:
    """The outcome for one witness. `size` is the size it has according to its last answer, `time` its stated POSIX time."""

    witness: str
    verdict: Verdict
    message: str
    size: int | None = None
    time: int | None = None

    @property
    def alarming(self) -> bool:
        """Whether this speaks of a rollback or fork and not merely of a witness that is out of reach."""
        return self.verdict in (Verdict.ROLLED_BACK, Verdict.FORKED)

    def __str__(self) -> str:
        return f"witness {self.witness}: {self.message}"


@dataclass(frozen=True)
class Collected:
    """The note with all verified cosignatures, and a finding for each witness in the order given."""

    note: str
    findings: tuple[Finding, ...]


@dataclass
class _Ask:
    remote: Remote
    old: int
    tried: set[int] = field(default_factory=set)
    answer: tuple[int, str, bytes] | str | None = None  # (status, content type, body), or why there is none


def collect(
    note: str,
    witnesses: Iterable[Remote],
    proofs: Proofs,
    timeout: float = 10.0,
    *,
    known: dict[str, int] | None = None,
    current_size: Callable[[], int] | None = None,
) -> Collected:
    """Ask witnesses, all at once, to cosign a checkpoint.

    Args:
        note: the checkpoint, signed by the log; cosignatures it holds already are verified, kept and not asked for again.
        witnesses: whom to ask.
        proofs: returns the consistency proof between two sizes of the ledger; called in this thread only.
        timeout: seconds for everything together; later answers are lost.
        known: sizes the witnesses are thought to have, by name; saves one round trip, and a wrong one does no harm.
        current_size: the ledger's size now. A witness that has more than the checkpoint but not more than this was merely
            asked with an old checkpoint by a slower process.

    Returns:
        The note with the lines of those that cosigned, and what became of each.

    Raises:
        NoteError: if the note is malformed or holds a cosignature of one of these witnesses that does not verify.
    """
    parsed = parse_note(note)
    head = Checkpoint.parse(parsed.text)
    remotes = list(witnesses)
    found: dict[str, Finding] = {}
    open_: list[_Ask] = []
    for remote in remotes:
        if remote.key.algorithm not in COSIGNATURES or not re.match(_URL, remote.url):
            message = "is configured without a cosignature key (type 0x04) or without an http(s) URL"
            found[remote.name] = Finding(remote.name, Verdict.FAILED, message)
        elif (present := _present(parsed, remote.key)) is not None:
            found[remote.name] = Finding(remote.name, Verdict.COSIGNED, "had cosigned already", head.size, present)
        else:
            open_.append(_Ask(remote, min((known or {}).get(remote.name, 0), head.size)))
    deadline = time.monotonic() + timeout
    for _ in range(_ROUNDS):
        if not open_:
            break
        _post_all(open_, head, note, proofs, deadline)
        for ask in list(open_):
            answered, line = _judge(ask, head, parsed.text, current_size)
            if answered is not None:
                found[ask.remote.name] = answered
                open_.remove(ask)
            if line is not None:
                note += line
    for ask in open_:
        found[ask.remote.name] = Finding(
            ask.remote.name, Verdict.FAILED, "its size changed with every question; ask again later", ask.old
        )
    return Collected(note, tuple(found[remote.name] for remote in remotes))


def _present(note: Note, key: VerifierKey) -> int | None:
    times = [
        verify_cosignature(note.text, line, key)
        for line in note.signatures
        if (line.name, line.key_id) == (key.name, key.key_id)
    ]
    return min(times) if times else None


def _body(ask: _Ask, head: Checkpoint, note: str, proofs: Proofs) -> bytes:
    ask.tried.add(ask.old)
    path = proofs(ask.old, head.size) if 0 < ask.old < head.size else ()
    return AddCheckpoint(ask.old, tuple(path), note).body()


def _post_all(asks: list[_Ask], head: Checkpoint, note: str, proofs: Proofs, deadline: float) -> None:
    threads = []
    for ask in asks:
        ask.answer = None
        try:
            body = _body(ask, head, note, proofs)
        except ProofError as error:
            ask.answer = f"our ledger has no proof from size {ask.old}: {error}"
            continue
        # a daemon: urllib's timeout is one for each read, so a witness that drips bytes must not hold up the process
        thread = threading.Thread(target=_post_into, args=(ask, body, deadline), daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _post_into(ask: _Ask, body: bytes, deadline: float) -> None:
    left = deadline - time.monotonic()
    ask.answer = _http(f"{ask.remote.url.rstrip('/')}/add-checkpoint", body, left) if left > 0 else "no answer in time"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _http(url: str, body: bytes | None, timeout: float) -> tuple[int, str, bytes] | str:
    """Return (status, content type, body), or a text that says why there is no answer."""
    request = urllib.request.Request(url, data=body, method="GET" if body is None else "POST")  # noqa: S310 (checked)
    if body is not None:
        request.add_header("Content-Type", "text/plain; charset=utf-8")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as response:
            data = response.read(_MAX_ANSWER + 1)
            status, kind = response.status, response.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        with error:
            try:
                data = error.read(_MAX_ANSWER + 1)
            except (OSError, http.client.HTTPException):
                data = b""
            status, kind = error.code, error.headers.get("Content-Type", "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return f"cannot be reached: {_plain(str(reason) or type(error).__name__)}"
    if len(data) > _MAX_ANSWER:
        return "sent an answer that is too large"
    return status, kind, data


def _judge(
    ask: _Ask, head: Checkpoint, text: str, current_size: Callable[[], int] | None
) -> tuple[Finding | None, str | None]:
    """Return what became of the question (None: ask again) and the verified cosignature line."""
    name, answer = ask.remote.name, ask.answer
    if answer is None:
        return Finding(name, Verdict.FAILED, "gave no answer in time", ask.old or None), None
    if isinstance(answer, str):
        return Finding(name, Verdict.FAILED, answer), None
    status, kind, data = answer
    if status == 200:
        return _cosigned(ask.remote, head, text, data)
    if status == 409 and kind.partition(";")[0].strip() == SIZE_TYPE:
        return _conflict(ask, head, data, current_size), None
    if status in (409, 422):
        message = f"does not find the {ask.old} entries it cosigned in our checkpoint of size {head.size}"
        return Finding(name, Verdict.FORKED, f"{message} ({_plain(data)})", ask.old), None
    hints = {403: "does not trust the key that signed", 404: "does not know this ledger, or the URL is wrong"}
    return Finding(name, Verdict.FAILED, f"answered {status}: {hints.get(status) or _plain(data)}"), None


def _conflict(ask: _Ask, head: Checkpoint, data: bytes, current_size: Callable[[], int] | None) -> Finding | None:
    name = ask.remote.name
    if not re.fullmatch(rb"(0|[1-9][0-9]{0,18})\n", data):
        return Finding(name, Verdict.FAILED, "answered a conflict without a size")
    size = int(data)
    if size > head.size:
        if current_size is not None and size <= current_size():
            return Finding(name, Verdict.SUPERSEDED, f"has a newer checkpoint of size {size} already", size)
        message = (
            f"has cosigned {size} entries, our checkpoint has {head.size}: this ledger may have been rolled back. "
            f"Append nothing; compare with the witness's checkpoint"
        )
        return Finding(name, Verdict.ROLLED_BACK, message, size)
    if size in ask.tried:
        return Finding(name, Verdict.FAILED, f"contradicts itself about its size {size}", size)
    ask.old = size
    return None


def _cosigned(remote: Remote, head: Checkpoint, text: str, data: bytes) -> tuple[Finding, str | None]:
    key = remote.key
    try:
        answered = parse_note(f"{text}\n".encode() + data)
        if answered.text != text:
            raise NoteError("the answer holds more than signature lines")
        for line in answered.signatures:
            if (line.name, line.key_id) == (key.name, key.key_id):
                stated = verify_cosignature(text, line, key)
                return Finding(remote.name, Verdict.COSIGNED, "cosigned", head.size, stated), signature_line(line)
    except NoteError as error:
        return Finding(remote.name, Verdict.FAILED, f"sent no valid cosignature: {_plain(str(error))}"), None
    return Finding(remote.name, Verdict.FAILED, f"sent no cosignature of the key {key.name!r}"), None


def fetch_head(
    remote: Remote, origin: str, logs: Sequence[VerifierKey], timeout: float = 10.0
) -> tuple[Checkpoint, str, int] | None:
    """Return what a `cognify witness` cosigned last for a ledger: checkpoint, note, POSIX time. None if nothing yet.

    Other witnesses do not have this request. The note is proof, unlike the size in a 409 answer.

    Raises:
        LedgerError: if it cannot be reached or does not have the request.
        NoteError: if the note is not signed by one of the log keys and cosigned by this witness.
    """
    if not re.match(_URL, remote.url):
        raise LedgerError(f"witness {remote.name}: {remote.url!r} is not an http(s) URL")
    answer = _http(f"{remote.url.rstrip('/')}/head/{hashlib.sha256(origin.encode()).hexdigest()}", None, timeout)
    if isinstance(answer, str):
        raise LedgerError(f"witness {remote.name} {answer}")
    status, _, data = answer
    if status == 404 and b"nothing was cosigned" in data:
        return None
    if status != 200:
        raise LedgerError(f"witness {remote.name} answered {status}: {_plain(data)}")
    note = parse_note(data)
    checkpoint = open_checkpoint(data, logs)
    stated = _present(note, remote.key)
    if checkpoint.origin != origin or stated is None:
        raise NoteError(f"witness {remote.name} sent a note of another ledger or without its own cosignature")
    return checkpoint, data.decode(), stated


def _plain(text: str | bytes) -> str:
    """Make foreign text safe for a message: one line, printable, short."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return "".join(char if char.isprintable() else " " for char in shown).strip()[:200]
