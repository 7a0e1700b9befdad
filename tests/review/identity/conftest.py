"""Passwords are hashed with small parameters, so that what costs time in these tests is what they test."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from cognify_dagster.review.identity import passwords

_SMALL = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture(autouse=True)
def _small_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", lambda: _SMALL)
    passwords._nobodys.cache_clear()
