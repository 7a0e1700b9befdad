"""What the site holds while it runs: configuration, workspace, its own database, templates, work in the background."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.rendering import Templates
from cognify_dagster.review.store import Store
from cognify_dagster.review.traffic import Traffic
from cognify_dagster.workspace import Reading, Workspace


@dataclass
class Site:
    """A running site. `workspace` may be used by many threads; `state` holds what modules keep between requests, by their own key."""

    config: ReviewConfig
    workspace: Workspace
    store: Store
    templates: Templates
    state: dict[Hashable, Any] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    traffic: Traffic = field(default_factory=Traffic)

    def read(self) -> Reading:
        """Return the ledger as it is now, verified."""
        return self.workspace.read()

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(timezone.utc)

    def remember(self, key: Hashable, make: Any) -> Any:
        """Return what is kept under a key, made now if there is nothing yet."""
        with self.lock:
            if key not in self.state:
                self.state[key] = make()
            return self.state[key]

    def url(self, path: str) -> str:
        """Return the full address of a path."""
        return self.config.url + path
