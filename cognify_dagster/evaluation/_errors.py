"""The errors of this room."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Input to an evaluation is unusable; the message names the field and what to do."""


class GateSetError(EvaluationError):
    """A gate set is unusable; the message names the file and the field."""


class AdvisoryError(EvaluationError):
    """A file of security advisories is unusable; the message names the file and the entry."""
