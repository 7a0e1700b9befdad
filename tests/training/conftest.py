"""A founded workspace for the tests that seal; the other tests of this folder need none."""

from __future__ import annotations

from tests.governance.conftest import founded, founded_template

__all__ = ["founded", "founded_template"]
