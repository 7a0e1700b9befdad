"""Errors of the ledger room. Every message says what is wrong and what to do."""

from __future__ import annotations


class LedgerError(Exception):
    """Base of every error this room raises."""


class CanonicalJsonError(LedgerError, ValueError):
    """A value has no RFC 8785 form, or bytes are not the canonical form of what they hold."""


class ProofError(LedgerError, ValueError):
    """An inclusion or consistency proof does not prove what it claims."""


class NoteError(LedgerError, ValueError):
    """A signed note, checkpoint, proof file or trust file is malformed or its signature fails."""


class EntryError(LedgerError, ValueError):
    """Entry bytes are malformed, or a draft cannot become an entry."""


class IdempotencyConflict(LedgerError):
    """The idempotency key is taken by an entry with other facts."""


class SizeChanged(LedgerError):
    """The ledger grew between the decision and the append (optimistic concurrency)."""


class ClockError(LedgerError):
    """The machine's clock lies too far before the ledger's last entry."""


class WriterRefused(LedgerError):
    """The key that signed an entry is not enrolled for its kind; nothing was appended."""


class LedgerUnreadable(LedgerError):
    """The ledger file is missing, foreign, damaged or on storage that cannot be trusted."""


class LedgerFull(LedgerError):
    """The storage refused the write; nothing was appended."""


class Tampered(LedgerError):
    """Stored bytes contradict themselves or a signed checkpoint."""


class RolledBack(LedgerError):
    """The ledger is older than what somebody outside remembers of it; nothing may be appended until that is resolved."""


class NotWitnessed(LedgerError):
    """The entry is kept and its checkpoint signed, but the quorum of witnesses did not cosign; what depends on it must wait."""
