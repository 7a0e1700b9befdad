"""Real workspaces, copied from those of the governance tests."""

from __future__ import annotations

from tests.governance.conftest import approved, approved_template, founded, founded_template, ready, ready_template

__all__ = ["approved", "approved_template", "founded", "founded_template", "ready", "ready_template"]
