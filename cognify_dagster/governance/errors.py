"""Errors of the governance room."""

from __future__ import annotations


class GovernanceError(Exception):
    """Base of every error this room raises; the message says what to do."""


class PolicyError(GovernanceError, ValueError):
    """A policy file is wrong; the message names the field."""


class KeyFileError(GovernanceError, ValueError):
    """A personal key cannot be created, read or unlocked."""


class SignatureError(GovernanceError, ValueError):
    """An envelope or statement does not verify."""


class SignOffDenied(GovernanceError):
    """A sign-off was refused; `reasons` says why. The attempt is in the ledger."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons
