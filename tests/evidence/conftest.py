"""Fixtures of the evidence tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognify_dagster.evidence import EvidenceStore, LocalKeyProvider


@pytest.fixture
def kek(tmp_path: Path) -> LocalKeyProvider:
    return LocalKeyProvider.create(tmp_path / "kek")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


@pytest.fixture
def store(root: Path, kek: LocalKeyProvider) -> EvidenceStore:
    return EvidenceStore(root, keys=kek)
