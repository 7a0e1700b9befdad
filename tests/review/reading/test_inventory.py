"""The inventory finds, sorts and exports every model, and nothing that a visitor may not see."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.records import ModelRegistered
from cognify_dagster.review.reading.inventory import FIELDS, SORTS, Row, Wanted, as_csv, as_jsonl, listing
from tests.review.reading.conftest import look
from tests.review.site_world import SiteWorld


def row(model: str, **more: object) -> Row:
    facts: dict[str, object] = {
        "model": model, "title": "", "owner": "o", "tier": "high", "tier_signed": True, "status": "live", "live": (),
        "newest_version": "1", "waiting": 0, "next_review": None, "review_overdue": False, "open_findings": 0, "severities": "",
        "frameworks": (), "versions": 1, "registered_us": 0, "changed": 0,
    }  # fmt: skip
    return Row(**(facts | more))  # type: ignore[arg-type]


ROWS = st.lists(
    st.builds(
        row,
        st.text("abcde", min_size=1, max_size=4),
        owner=st.sampled_from(["ann", "bob"]),
        next_review=st.one_of(st.none(), st.sampled_from(["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"])),
        open_findings=st.integers(0, 3),
    ),
    unique_by=lambda item: item.model,
    max_size=30,
)


@given(ROWS, st.sampled_from(SORTS), st.booleans(), st.integers(1, 7))
def test_the_pages_of_a_list_hold_every_row_once_in_order(rows: list[Row], sort: str, down: bool, size: int) -> None:
    first = listing(rows, Wanted(sort=sort, down=down), size)
    shown = [
        item
        for page in range(1, first.pages + 1)
        for item in listing(rows, Wanted(sort=sort, down=down, page=page), size).rows
    ]
    assert sorted(item.model for item in shown) == sorted(item.model for item in rows)
    values = [value for item in shown if (value := getattr(item, sort)) not in (None, "")]
    assert values == sorted(values, reverse=down)
    assert all(getattr(item, sort) in (None, "") for item in shown[len(values) :])


@given(ROWS, st.text("abc", max_size=2), st.sampled_from(["", "ann"]))
def test_a_filter_keeps_exactly_what_fits(rows: list[Row], text: str, owner: str) -> None:
    found = listing(rows, Wanted(text=text, owner=owner), 100).rows
    expected = {r.model for r in rows if text in f"{r.model}  {r.owner} " and owner in ("", r.owner)}
    assert {item.model for item in found} == expected


def test_a_page_past_the_end_is_the_last() -> None:
    assert listing([row("a"), row("b")], Wanted(page=99), 1).rows[0].model == "b"


def test_the_csv_reads_back_and_holds_no_formula() -> None:
    rows = [row("a", title='=HYPERLINK("http://evil")', owner='x, "y"'), row("b", next_review="2026-01-01T00:00:00Z")]
    read = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert tuple(read[0]) == FIELDS
    assert read[0]["title"] == '\'=HYPERLINK("http://evil")'
    assert read[0]["owner"] == 'x, "y"'
    assert read[1]["next_review"] == "2026-01-01T00:00:00Z"
    assert [json.loads(line)["model"] for line in as_jsonl(rows).splitlines()] == ["a", "b"]


def test_the_page_lists_owner_tier_status_and_what_is_in_use(told_site: SiteWorld) -> None:
    text = told_site.client_for("vera").get("/models").text
    for words in (
        "team:credit-risk",
        "high",
        "live",
        "credit_default 1</a> on production",
        "1 version waits",
        "1 of 1 model",
    ):
        assert words in text


def test_filters_work_by_address_alone(site_world: SiteWorld) -> None:
    site_world.world.write(
        ModelRegistered(model="fraud", title="Fraud <b>score</b>", owner="team:fraud", risk_tier="high")
    )
    look(site_world)
    client = site_world.client_for("vera")
    text = client.get("/models?q=fraud").text
    assert 'href="/models/fraud"' in text
    assert "Fraud &lt;b&gt;score&lt;/b&gt;" in text
    assert 'href="/models/credit_default"' not in text
    assert "No model is like that" in client.get("/models?q=nothing").text
    assert client.get("/models?page=abc&sort=evil&down=2").status_code == 200
    exported = client.get("/models/export.jsonl?q=fraud")
    assert [json.loads(line)["model"] for line in exported.text.splitlines()] == ["fraud"]
    assert "attachment" in client.get("/models/export.csv").headers["content-disposition"]


def test_an_empty_inventory_says_what_to_do(founded_site: SiteWorld) -> None:
    assert "No model is registered yet" in founded_site.client_for("vera").get("/models").text
