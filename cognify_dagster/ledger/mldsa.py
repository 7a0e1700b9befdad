"""ML-DSA-44 cosignatures (C2SP tlog-cosignature, signature type 0x06; FIPS 204): what is signed, signing, verifying.

Invariants: the cosigner's name, the log's origin, size and root are in the signed bytes, the time too; the size of every part is fixed
or written before it, so two messages never have the same bytes. Needs a version of `cryptography` with ML-DSA; where it is absent, such a
cosignature is an error, never passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cognify_dagster.ledger.errors import NoteError
from cognify_dagster.ledger.note import Checkpoint

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

SIGNATURE_SIZE = 2420
_LABEL = b"subtree/v1\n\0"


def cosigned_message(name: str, time: int, checkpoint: Checkpoint) -> bytes:
    """Return the `cosigned_message` structure for a whole tree.

    Args:
        name: the cosigner's key name.
        time: POSIX seconds.
        checkpoint: the head; extension lines of its note are not part of what is signed.

    Raises:
        NoteError: if name or origin have more than 255 bytes.
    """
    return b"".join(
        (
            _LABEL,
            _counted(name),
            time.to_bytes(8, "big"),
            _counted(checkpoint.origin),
            bytes(8),  # start: a checkpoint begins at the first leaf
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def _counted(text: str) -> bytes:
    data = text.encode()
    if not 1 <= len(data) <= 255:
        raise NoteError(f"{text[:80]!r}: an ML-DSA cosignature needs names of 1 to 255 bytes")
    return bytes([len(data)]) + data


def private_key(seed: bytes) -> MLDSA44PrivateKey:
    """Return the private key of a 32-byte seed.

    Raises:
        NoteError: if this version of `cryptography` has no ML-DSA.
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

        return MLDSA44PrivateKey.from_seed_bytes(seed)
    except (ImportError, UnsupportedAlgorithm) as error:
        raise _absent(error) from error


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature of a 1312-byte public key verifies (pure ML-DSA-44, empty context).

    Raises:
        NoteError: if this version of `cryptography` has no ML-DSA.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

        MLDSA44PublicKey.from_public_bytes(public).verify(signature, message)
    except (ImportError, UnsupportedAlgorithm) as error:
        raise _absent(error) from error
    except (InvalidSignature, ValueError):
        return False
    return True


def _absent(error: Exception) -> NoteError:
    return NoteError(
        f"an ML-DSA-44 key is named, and this version of `cryptography` cannot use it ({error}); upgrade it"
    )
