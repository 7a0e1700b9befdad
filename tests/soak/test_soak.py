"""Case 48, reduced: honest entries raise no alarm. COGNIFY_SOAK chooses how many; `make soak` runs a million."""

from __future__ import annotations

import os
from pathlib import Path

from tests.soak.soak import Soak


def test_48_honest_entries_raise_no_alarm(tmp_path: Path) -> None:
    entries = int(os.environ.get("COGNIFY_SOAK", "3000"))
    soak = Soak(tmp_path, entries).run()
    print(dict(soak.done))
    assert soak.alarms == []
    assert soak.size >= entries
    happened = ("key rotations", "payloads erased", "segments detached", "segments put back", "verified whole")
    for what in (*happened, "verified while others wrote", "writer processes", "cosignatures"):
        assert soak.done[what] > 0, what
