"""Errors of the evidence room. Every one is an :class:`EvidenceError`."""

from __future__ import annotations


class EvidenceError(Exception):
    """Evidence could not be stored or read; the message says which blob or folder and what to do."""


class EvidenceMissing(EvidenceError):
    """No blob with this digest lies in the store."""


class EvidenceCorrupt(EvidenceError):
    """Stored bytes do not match their name, their envelope or their reference: damage or tampering."""


class EvidenceKeyErased(EvidenceError):
    """The sealed blob is there, but its data key is gone, so its content can no longer be read.

    Whether the key was erased on purpose is answered by an erasure entry in the ledger, not by the store.
    """


class EvidenceTooLarge(EvidenceError):
    """The blob is larger than the store accepts."""


class EvidenceConflict(EvidenceError):
    """The same bytes are already stored under a class or media type that does not agree with the request."""


class EvidenceKeyUnavailable(EvidenceError):
    """The key-encryption key needed to seal or open evidence is not at hand, or is not the right one."""


class EvidenceDiskFull(EvidenceError):
    """The folder named in the message has no space left; no partial blob was kept."""
