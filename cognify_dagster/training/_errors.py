"""The errors of this room."""

from __future__ import annotations


class TrainingError(ValueError):
    """Training facts can't be captured; the message names the key or file and what to do."""


class SealedError(TrainingError):
    """The training record was completed; nothing can be added to it or changed in it."""
