"""The redaction of what is recorded, as the instruments use it; it lies below, so that every recorder and evaluation has the same."""

from __future__ import annotations

from cognify_dagster.records.redaction import REDACTED, is_secret, redact, redact_command, redact_text

__all__ = ["REDACTED", "is_secret", "redact", "redact_command", "redact_text"]
