"""The package that is measured: a version with a training run, an evaluation and several frameworks, thirty pages in print."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cognify_dagster.documents import framework_ids, load_framework
from tests.documents.story import Story

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)
#: These bring the package of the story to thirty pages.
FRAMEWORKS = ("sr26-2", "fair-lending", "eu-ai-act-high-risk", "nist-ai-rmf")


def packaged(folder: Path) -> tuple[Story, dict[str, Any]]:
    """A version with everything recorded, and its package."""
    story = Story(folder)
    story.prepare_version("1")
    return story, story.package([load_framework(name) for name in FRAMEWORKS], NOW)


def crowded(folder: Path, entries: int) -> Story:
    """A version that was evaluated again and again, until its model has so many entries."""
    story = Story(folder)
    story.prepare_version("1")
    subject = f"model/{story.model}"
    while len(story.ws.read().history(subject)) < entries:
        for _ in range(25):
            story.evaluate()
    return story


def all_frameworks() -> list[Any]:
    """Every framework that is shipped."""
    return [load_framework(name) for name in framework_ids()]


def processor_time(work: Callable[[], object], repeats: int = 5) -> float:
    """Median processor time of a call with its child processes, in seconds: what a busy machine changes least."""
    found = []
    for _ in range(repeats):
        before = os.times()
        work()
        after = os.times()
        found.append(sum(after[:4]) - sum(before[:4]))
    return statistics.median(found)


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
