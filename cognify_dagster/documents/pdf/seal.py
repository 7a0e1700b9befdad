"""Seals the final copy: a certifying PAdES signature (ETSI EN 319 142-1, B-B; B-T with a time-stamping authority) by pyHanko.

Invariants: sealing appends to the file, so the unsealed bytes stay an exact prefix; the key is ECDSA on P-256, which common PDF readers
accept; the seal is invisible, so that no font or picture enters the archival file; a seal that does not cover the whole file does not
hold, whatever it covers. The seal shows that a file is as the workspace made it: what people approved is shown by their signatures on
the package alone.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cognify_dagster.documents.errors import DocumentError, SealError

FIELD = "Seal"
REASON = "Seals the document as it was made"
YEARS = 10
MAX_NAME = 64


@dataclass(frozen=True)
class Seal:
    """What a workspace seals with.

    Attributes:
        key: PEM file (PKCS #8) of an ECDSA P-256 key, readable by its owner only.
        certificate: PEM file of its certificate.
        chain: PEM files of the certificates above it.
        tsa: URL of a time-stamping authority (RFC 3161), empty for none.
    """

    key: Path
    certificate: Path
    chain: tuple[Path, ...] = ()
    tsa: str = ""


@dataclass(frozen=True)
class SealState:
    """What is found of a file's seal.

    Attributes:
        holds: one seal, intact, over the whole file, by a trusted certificate.
        problems: why not, in words.
        subject, serial, fingerprint: of the certificate (SHA-256, hex); empty without a readable seal.
        signed_at: as the sealing machine's clock said (UTC).
        time_stamped: whether an RFC 3161 time stamp stands beside it.
        stamped_at: the time (UTC) that a trusted authority's stamp proves; empty where no authority was given or it does not hold.
    """

    holds: bool
    problems: tuple[str, ...]
    subject: str = ""
    serial: str = ""
    fingerprint: str = ""
    signed_at: str = ""
    time_stamped: bool = False
    stamped_at: str = ""


def create_seal(key: Path, certificate: Path, name: str, *, now: datetime | None = None) -> x509.Certificate:
    """Make a P-256 key and a self-signed certificate for sealing.

    Args:
        key, certificate: files to write; neither may exist.
        name: whose seal it is, the certificate's common name.
        now: begin of validity; the present unless given. It lasts ten years.

    Raises:
        SealError: if a file exists or the name does not fit.
    """
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise SealError(f"the name of a seal has 1 to {MAX_NAME} printable characters")
    for path in (key, certificate):
        if path.exists():
            raise SealError(f"{path} exists; a seal is never replaced in place, choose another file")
    begin = (now or datetime.now(timezone.utc)).replace(microsecond=0)
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.strip())])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(secret, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    _write(key, secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain), 0o600)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return made


def seal_pdf(pdf: bytes, seal: Seal) -> bytes:
    """Return the PDF with the seal appended.

    Raises:
        SealError: if key or certificate cannot be used, the time-stamping authority does not answer, or pyHanko refuses the file.
    """
    signers, fields, writer, misc = _hanko()
    signer = _signer(seal, signers)
    try:
        stamper = None
        if seal.tsa:
            from pyhanko.sign.timestamps import HTTPTimeStamper

            stamper = HTTPTimeStamper(seal.tsa, timeout=20)
        output = signers.sign_pdf(
            writer(io.BytesIO(pdf)),
            signers.PdfSignatureMetadata(
                field_name=FIELD,
                md_algorithm="sha256",
                subfilter=fields.SigSeedSubFilter.PADES,
                certify=True,
                docmdp_permissions=fields.MDPPerm.FILL_FORMS,
                reason=REASON,
            ),
            signer=signer,
            timestamper=stamper,
        )
    except (misc.PdfError, ValueError, OSError, RuntimeError) as error:
        raise SealError(f"the final copy could not be sealed: {type(error).__name__}: {error}") from error
    sealed: bytes = output.getvalue()
    if not sealed.startswith(pdf):
        raise SealError("sealing changed the document instead of adding to it; nothing was written")
    return sealed


def check_seal(pdf: bytes, trusted: list[x509.Certificate], authorities: Sequence[x509.Certificate] = ()) -> SealState:
    """Verify the one seal of a PDF without any network.

    Args:
        pdf: the file.
        trusted: certificates that count, the seal's own or one above it.
        authorities: roots of time-stamping authorities. With any, the seal holds only with a time stamp by one of them.

    Returns:
        What was found. A file that is no PDF, has no seal or more than one, does not hold.
    """
    from asn1crypto import x509 as asn1
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation import SignatureCoverageLevel, validate_pdf_signature
    from pyhanko_certvalidator import ValidationContext

    try:
        found = list(PdfFileReader(io.BytesIO(pdf)).embedded_signatures)
        if len(found) != 1:
            return SealState(False, (f"the file has {len(found)} signatures; one seal is expected",))

        def context(roots: Iterable[x509.Certificate]) -> Any:
            known = [asn1.Certificate.load(item.public_bytes(serialization.Encoding.DER)) for item in roots]
            return ValidationContext(trust_roots=known, allow_fetching=False, revocation_mode="soft-fail")

        status = validate_pdf_signature(found[0], context(trusted), context(authorities))
    except (
        Exception
    ) as error:  # a damaged file meets code that expects a whole one: whatever that raises, the seal does not hold
        return SealState(False, (f"the seal cannot be read: {type(error).__name__}: {error}",))
    certificate = x509.load_der_x509_certificate(status.signing_cert.dump())
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    problems = []
    if not (status.intact and status.valid):
        problems.append("the file was changed after it was sealed")
    if found[0].coverage is None or status.coverage != SignatureCoverageLevel.ENTIRE_FILE:
        problems.append("the seal does not cover the whole file: something was added after it")
    if not _plain_gap(pdf, found[0].byte_range):
        problems.append("the place of the seal in the file holds more than the seal")
    known = {item.fingerprint(hashes.SHA256()).hex() for item in trusted}
    # a certificate that signs itself proves nothing about its own bytes: it counts if it is the very one that is trusted
    issued = status.trusted and certificate.subject != certificate.issuer
    if fingerprint not in known and not issued:
        problems.append("the seal is by a certificate that is not trusted here")
    stamp = status.timestamp_validity
    stamped = stamp is not None and bool(authorities) and stamp.intact and stamp.valid and stamp.trusted
    if authorities and not stamped:
        problems.append(
            "there is no time stamp" if stamp is None else "the time stamp is not by an authority that is trusted here"
        )
    return SealState(
        holds=not problems,
        problems=tuple(problems),
        subject=certificate.subject.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        fingerprint=fingerprint,
        signed_at=_utc(status.signer_reported_dt),
        time_stamped=stamp is not None,
        stamped_at=_utc(stamp.timestamp) if stamp is not None and stamped else "",
    )


def _utc(moment: datetime | None) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _plain_gap(pdf: bytes, byte_range: Any) -> bool:
    """Whether the only bytes that the seal cannot cover are itself: hexadecimal of one case, one DER value, then zeros."""
    try:
        start, end = int(byte_range[0]) + int(byte_range[1]), int(byte_range[2])
        gap = pdf[start:end].decode("ascii")
        digits = gap[1:-1]
        raw = bytes.fromhex(digits)
    except (ValueError, TypeError, IndexError):
        return False
    if (
        gap[:1] != "<"
        or gap[-1:] != ">"
        or len(digits) != 2 * len(raw)
        or digits not in (digits.lower(), digits.upper())
    ):
        return False
    if len(raw) < 4 or raw[0] != 0x30 or not 0x81 <= raw[1] <= 0x83:
        return False
    octets = raw[1] & 0x7F
    length = 2 + octets + int.from_bytes(raw[2 : 2 + octets], "big")
    return length <= len(raw) and not any(raw[length:])


def sealed_by(path: Path) -> str:
    """Return the words by which a document names the certificate that seals it.

    Raises:
        SealError: if the file is not a certificate.
    """
    certificate = read_certificate(path)
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return f"{certificate.subject.rfc4514_string()}, serial {certificate.serial_number:x}, SHA-256 {fingerprint}"


def read_certificate(path: Path) -> x509.Certificate:
    """Read a PEM certificate.

    Raises:
        SealError: naming the file.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SealError(f"{path}: not a readable PEM certificate ({error})") from None


def _signer(seal: Seal, signers: Any) -> Any:
    try:
        if os.name == "posix" and seal.key.stat().st_mode & 0o077:
            raise SealError(f"{seal.key}: others can read the key of the seal; run chmod 600 on it")
        secret = serialization.load_pem_private_key(seal.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, SealError):
            raise
        raise SealError(f"{seal.key}: not a readable, unencrypted PEM key ({error})") from None
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or not isinstance(secret.curve, ec.SECP256R1):
        raise SealError(f"{seal.key}: a seal needs an ECDSA P-256 key")
    if read_certificate(seal.certificate).public_key() != secret.public_key():
        raise SealError(f"{seal.certificate}: this certificate belongs to another key than {seal.key}")
    signer = signers.SimpleSigner.load(
        str(seal.key), str(seal.certificate), ca_chain_files=tuple(map(str, seal.chain)), key_passphrase=None
    )
    if signer is None:
        raise SealError(f"{seal.certificate}: key, certificate or chain cannot be loaded")
    return signer


def _hanko() -> tuple[Any, Any, Any, Any]:
    try:
        from pyhanko.pdf_utils import misc
        from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
        from pyhanko.sign import fields, signers
    except ImportError as error:
        raise SealError("pyhanko is not installed; install cognify-dagster[documents]") from error
    return signers, fields, IncrementalPdfFileWriter, misc


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise DocumentError(f"{path}: cannot be written ({error})") from error
