"""Verifies the whole ledger from time to time, in a process of its own, so that no page waits for it.

What a request reads is verified anyway; this finds what nobody reads, and compares with every signed head.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from cognify_dagster.review.site import Site
from cognify_dagster.review.webhooks.delivering import stopping
from cognify_dagster.review.webhooks.feeding import tell_failure
from cognify_dagster.review.webhooks.outbox import read_mark, write_mark

DEFAULT_HOURS = 24
MARK = "checked"
_TIMEOUT_S = 6 * 3600
_FAILED = {1: "tampered", 2: "rolled_back"}
_OUTCOMES = {0: "holds", **_FAILED, 3: "unreadable", 4: "unproven"}


def check_due(site: Site, hours: float) -> bool:
    """Whether the ledger is to be verified now, by whoever asks; others are told no meanwhile.

    A new site waits for its first time, so that a start costs nothing.
    """
    now = int(site.now().timestamp())
    with site.store.begin() as connection:
        mark = read_mark(connection, MARK)
        if mark is not None and now < int(mark["next"]):
            return False
        pause = hours * 3600 if mark is None else min(hours * 3600, _TIMEOUT_S)  # a check that is killed is due again
        write_mark(connection, MARK, {**(mark or {}), "next": now + int(pause)})
    return mark is not None


def check(site: Site, hours: float) -> str:
    """Verify the ledger, remember and tell what came of it.

    Args:
        site: the running site.
        hours: until the next time.

    Returns:
        holds, tampered, rolled_back, unreadable, unproven; or stopped, if the site was stopped meanwhile.
    """
    code, report = _verify(site)
    if code is None:
        return "stopped"
    outcome = _OUTCOMES.get(code, "unreadable")
    now = int(site.now().timestamp())
    findings = report.get("findings") or []
    text = "; ".join(str(item["message"]) for item in findings[:5])
    with site.store.begin() as connection:
        write_mark(
            connection,
            MARK,
            {
                "next": now + int(hours * 3600), "when": now, "outcome": outcome, "level": report.get("level"),
                "size": report.get("size"), "findings": len(findings), "text": text[:500],
            },
        )  # fmt: skip
    if code in _FAILED:
        tell_failure(site, outcome, text or f"cognify ledger verify ended with {code}")
    return outcome


def last_check(site: Site) -> dict[str, Any]:
    """Return what the last verification said: when, outcome, level, size, findings, text; `next`: when the next is due.

    What is not known is None.
    """
    with site.store.begin() as connection:
        mark: dict[str, Any] = read_mark(connection, MARK) or {}
    return dict.fromkeys(("when", "next", "outcome", "level", "size", "findings", "text")) | mark


def _verify(site: Site) -> tuple[int | None, dict[str, Any]]:
    command = [
        sys.executable, "-m", "cognify_dagster.cli", "--workspace", str(site.workspace.config.path), "ledger", "verify", "--json",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _TIMEOUT_S
    try:
        while True:
            try:
                out, _ = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if stopping(site):
                    return None, {}
                if time.monotonic() > deadline:
                    return 3, {}
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    try:
        value = json.loads(out)
    except ValueError:
        value = {}
    return process.returncode, value if isinstance(value, dict) else {}
