"""Real workspaces, copied from those of the governance tests."""

from __future__ import annotations

from tests.governance.conftest import founded, founded_template

__all__ = ["founded", "founded_template"]
