"""Case 48, reduced: honest entries raise no alarm, in both stores. COGNIFY_SOAK chooses how many; `make soak` runs a million."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.postgres_server import Server
from tests.soak.soak import HEAD, Soak, page


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_48_honest_entries_raise_no_alarm(tmp_path: Path, store: str) -> None:
    entries = int(os.environ.get("COGNIFY_SOAK", "3000" if store == "sqlite" else "1800"))
    server = Server() if store == "postgres" else None
    try:
        soak = Soak(tmp_path, entries, server=server).run()
        text = soak.result()
    finally:
        if server is not None:
            server.stop()
    print(dict(soak.done))
    assert ("PostgreSQL 1" in text, "Alarms: none." in text) == (store == "postgres", True)
    assert soak.done["server stops in mid-write"] == (1 if server is not None else 0)
    assert soak.alarms == []
    assert soak.size >= entries
    happened = ("key rotations", "payloads erased", "segments detached", "segments put back", "verified whole")
    for what in (*happened, "verified while others wrote", "writer processes", "cosignatures"):
        assert soak.done[what] > 0, what


def test_the_page_keeps_the_result_of_the_other_store() -> None:
    first = page("", "sqlite", "one\n")
    assert first == HEAD + "\n## In SQLite\n\none\n"
    both = page(first, "postgres", "two")
    assert both == HEAD + "\n## In SQLite\n\none\n\n## In Postgres\n\ntwo\n"
    assert page(page(both, "sqlite", "three"), "postgres", "four").count("## In") == 2
    assert "three" in page(both, "sqlite", "three")
