"""The access log: who looked at what, when, how signed in, from where; which batches stand in the ledger, and whether they are intact."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from starlette.responses import Response

from cognify_dagster.governance import directory
from cognify_dagster.review.access.anchoring import PROBLEM, BatchState, batch_entries, check_batch
from cognify_dagster.review.access.log import flush
from cognify_dagster.review.access.scope import may_see_log
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.pages.ledger import day_us, number
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.store import access as table
from cognify_dagster.review.store.access import Kept
from cognify_dagster.review.visit import Visit

_LIMIT = 100
_BATCHES = 20
MAX_EXPORT = 50_000
_FIELDS = ("n", "time", "who", "method", "action", "subject", "detail", "status", "address", "agent", "entry")


@page("/access", Need.READ)
def access(visit: Visit) -> Response:
    """Show lines, newest first: all of them to those who may see the log, their own to others."""
    wanted, form, problem = _filters(visit)
    before = number(visit.query("before"), "before")
    flush(visit.site, 2.0)
    with visit.site.store.begin() as connection:
        lines = table.find_lines(connection, limit=_LIMIT + 1, before=before, **wanted)
        waiting, oldest = table.waiting_lines(connection)
        actions = table.known(connection, "action") if may_see_log(visit) else []
        seqs = {line.batch: table.entry_of_batch(connection, line.batch) for line in lines if line.batch is not None}
    more = lines[_LIMIT - 1].n if len(lines) > _LIMIT else None
    states = {batch: _checked(visit, seq) for batch, seq in seqs.items() if seq is not None}
    rows = [_row(visit, line, states) for line in lines[:_LIMIT]]
    return visit.render(
        "access.html.j2",
        rows=rows,
        form=form,
        problem=problem,
        actions=actions,
        whole=may_see_log(visit),
        waiting=waiting,
        oldest=oldest,
        unanchored=visit.site.state.get(PROBLEM, ""),
        damaged=[state for state in states.values() if state is not None and state.problems],
        more={**{key: value for key, value in form.items() if value}, "before": more} if more is not None else None,
        query={key: value for key, value in form.items() if value},
        filtered=any(form.values()),
    )


@page("/access/batches", Need.READ)
def access_batches(visit: Visit) -> Response:
    """Show the batches that stand in the ledger, each compared with the site's lines."""
    _require_log(visit)
    before = number(visit.query("before"), "before")
    entries = batch_entries(visit.reading, _BATCHES + 1, before)
    rows = []
    for seq, item in entries[:_BATCHES]:
        state = check_batch(visit.site, visit.reading, seq)
        rows.append({"seq": seq, "record": item.record if item is not None else None, "state": state})
    more = entries[_BATCHES - 1][0] if len(entries) > _BATCHES else None
    return visit.render("access_batches.html.j2", rows=rows, more=more)


@page("/access/export", Need.READ)
def access_export(visit: Visit) -> Response:
    """Give the lines that the filters leave as CSV or JSON Lines, at most 50,000."""
    _require_log(visit)
    wanted, _, problem = _filters(visit)
    form = visit.query("format", "csv")
    if problem or form not in ("csv", "jsonl"):
        raise Refused(400, problem or "The format is csv or jsonl.")
    flush(visit.site, 2.0)
    with visit.site.store.begin() as connection:
        lines = table.find_lines(connection, limit=MAX_EXPORT, before=number(visit.query("before"), "before"), **wanted)
        numbers = {line.batch for line in lines if line.batch is not None}
        seqs = {batch: table.entry_of_batch(connection, batch) for batch in numbers}
    visit.detail = f"{len(lines)} lines as {form}"
    values = [_export(line, seqs) for line in lines]
    if form == "jsonl":
        text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
        return visit.download(text.encode(), "access.jsonl", "application/jsonl")
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_FIELDS)
    writer.writerows([_cell(value[name]) for name in _FIELDS] for value in values)
    return visit.download(out.getvalue().encode(), "access.csv", "text/csv; charset=utf-8")


def _require_log(visit: Visit) -> None:
    if not may_see_log(visit):
        raise Refused(
            403, "The whole access log holds personal data: workspace admins, compliance officers and auditors see it.",
            "wrong-role",
        )  # fmt: skip


def _filters(visit: Visit) -> tuple[dict[str, Any], dict[str, str], str]:
    form = {name: visit.query(name)[:200] for name in ("who", "action", "subject", "outcome", "since", "until")}
    problem = ""
    try:
        since, until = day_us(form["since"]), day_us(form["until"], end=True)
    except ValueError:
        since = until = None
        problem = "A day looks like 2026-11-22."
    who = form["who"]
    if who and "/" not in who:
        who = f"person/{who}"
    if not may_see_log(visit):
        who = _own(visit)
    wanted = {
        "who": who, "action": form["action"], "subject": form["subject"], "outcome": form["outcome"],
        "since_us": since, "until_us": until,
    }  # fmt: skip
    return wanted, form, problem


def _own(visit: Visit) -> str:
    user = visit.user
    assert user is not None
    return user.person or f"auditor/{user.account.grant_seq}"


def _checked(visit: Visit, seq: int) -> BatchState | None:
    return check_batch(visit.site, visit.reading, seq) if seq < visit.reading.size else None


def _row(visit: Visit, line: Kept, states: dict[int, BatchState | None]) -> dict[str, Any]:
    state = states.get(line.batch) if line.batch is not None else None
    altered = state is not None and line.n in state.altered
    if state is None:
        word, tone = "waiting", "open"
    elif altered:
        word, tone = "altered", "bad"
    else:
        word, tone = "anchored", "good"
    return {
        "line": line,
        "name": directory(visit.reading).name(line.who) if line.who.startswith("person/") else line.who,
        "word": word,
        "tone": tone,
        "seq": state.seq if state is not None else None,
    }


def _export(line: Kept, seqs: dict[int, int | None]) -> dict[str, Any]:
    value = asdict(line)
    moment = datetime.fromtimestamp(line.time_us / 1_000_000, timezone.utc)
    value["time"] = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    value["entry"] = seqs.get(line.batch) if line.batch is not None else None
    return {name: value[name] for name in _FIELDS}


def _cell(value: Any) -> Any:
    """A cell that a spreadsheet does not take for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
