"""Signs a model version's files as an OpenSSF model-signing bundle, and verifies such bundles.

Signing uses the library `model-signing` (the extra of that name) with an elliptic-curve key of one's own and no network. Verifying needs
only the core: the bundle is a DSSE envelope over an in-toto statement that lists every file with its SHA-256
(predicate ``https://model_signing/signature/v1.0``).

Invariants:

* Only the files of the sealed run are signed: they are taken from the evidence store, each checked against its digest, and a bundle that
  does not list exactly these files is never recorded.
* A signature counts only under the key it is verified with; a key inside a bundle is never used.
* Nothing of the bundle is believed before its signature held.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.ledger import Receipt, pae, parse_json
from cognify_dagster.records import ModelSignature, TrainingRun
from cognify_dagster.records.data import EvidenceItem
from cognify_dagster.training import TrainingError, digest_files
from cognify_dagster.training.paths import stays_inside
from cognify_dagster.workspace import Recorded, Workspace, idempotency_key

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE = "https://model_signing/signature/v1.0"
BUNDLE_NAME = "model.sig"
MAX_BUNDLE = 64 * 1024 * 1024
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_CURVES = {"secp256r1": "ecdsa-p256-sha256", "secp384r1": "ecdsa-p384-sha384", "secp521r1": "ecdsa-p521-sha512"}


class ModelSignatureError(ValueError):
    """A model cannot be signed, or a signature over it does not hold; the message says why."""


@dataclass(frozen=True)
class SignedFiles:
    """What a bundle says, once its signature held: the model's name and each file's SHA-256 by path."""

    name: str
    files: Mapping[str, str]
    algorithm: str
    key_hint: str


# Verifying --------------------------------------------------------------------------------------------------------------


def read_public_key(pem: bytes) -> tuple[Any, str]:
    """Return an elliptic-curve public key and its PEM text in the one form that hints are computed over.

    Raises:
        ModelSignatureError: no such key, or a curve that bundles don't use.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError:
        raise ModelSignatureError("the public key is no PEM text of a public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise ModelSignatureError(f"the public key is on none of the curves {', '.join(_CURVES)}")
    text = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key, text.decode("ascii")


def verify_bundle(bundle: bytes, public_key: bytes) -> SignedFiles:
    """Verify a bundle's signature and return what it lists.

    Args:
        bundle: The bundle's file.
        public_key: PEM of the key that it has to be signed with; never taken from the bundle.

    Raises:
        ModelSignatureError: not such a bundle, another key, a signature that does not hold, or a list that cannot be relied on.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key, pem = read_public_key(public_key)
    hint = hashlib.sha256(pem.encode("ascii")).hexdigest()
    try:
        value = parse_json(bundle, limit=MAX_BUNDLE)
        envelope = value["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        (signature,) = envelope["signatures"]
        sig = base64.b64decode(signature["sig"], validate=True)
        kind, stated = envelope["payloadType"], value["verificationMaterial"]["publicKey"]["hint"]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ModelSignatureError(f"not a model-signing bundle of one key ({type(error).__name__}: {error})") from None
    if kind != _PAYLOAD_TYPE:
        raise ModelSignatureError(f"the bundle signs {str(kind)[:80]!r}, not {_PAYLOAD_TYPE}")
    if stated and stated != hint:
        raise ModelSignatureError(f"the bundle names the key {str(stated)[:64]}, the one given is {hint}")
    size = key.curve.key_size
    digest = hashes.SHA256() if size == 256 else hashes.SHA384() if size == 384 else hashes.SHA512()
    try:
        key.verify(sig, pae(_PAYLOAD_TYPE, payload), ec.ECDSA(digest))
    except InvalidSignature:
        raise ModelSignatureError("the signature does not hold under this key") from None
    return SignedFiles(*_statement(payload), _CURVES[key.curve.name], hint)


def _statement(payload: bytes) -> tuple[str, dict[str, str]]:
    try:
        value = parse_json(payload, limit=MAX_BUNDLE)
        (subject,) = value["subject"]
        predicate = value["predicate"]
        form, rows = predicate["serialization"], predicate["resources"]
        if value["_type"] != _STATEMENT or value["predicateType"] != PREDICATE:
            raise ModelSignatureError(f"the statement is a {str(value['predicateType'])[:80]!r}, not {PREDICATE}")
        if form["method"] != "files" or form["hash_type"] != "sha256":
            raise ModelSignatureError(
                "the bundle hashes parts of files or not with SHA-256; only whole files are compared here"
            )
        if form.get("ignore_paths"):
            raise ModelSignatureError(f"the bundle leaves out {', '.join(map(str, form['ignore_paths']))[:200]}")
        files: dict[str, str] = {}
        whole = hashlib.sha256()
        for row in rows:
            name, sha256 = row["name"], row["digest"]
            if row["algorithm"] != "sha256" or not isinstance(name, str) or name in files:
                raise ModelSignatureError(f"the bundle's line about {str(name)[:80]!r} is not understood")
            files[name] = sha256
            whole.update(bytes.fromhex(sha256))
        if not files or subject["digest"]["sha256"] != whole.hexdigest():
            raise ModelSignatureError("the bundle's digest of the whole is not that of its files")
        return str(subject["name"]), files
    except ModelSignatureError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelSignatureError(f"the signed statement is not understood ({type(error).__name__}: {error})") from None


def differences(signed: Mapping[str, str], held: Mapping[str, str]) -> list[str]:
    """Say how the files of a bundle differ from those that are held, one line a file; empty if they don't."""
    lines = [f"missing: {name} is signed and not there" for name in sorted(set(signed) - set(held))]
    lines += [f"surplus: {name} is there and not signed" for name in sorted(set(held) - set(signed))]
    lines += [
        f"altered: {name} has sha256 {held[name]}, signed was {signed[name]}"
        for name in sorted(set(signed) & set(held))
        if signed[name] != held[name]
    ]
    return lines


def verify_folder(path: Path, bundle: bytes, public_key: bytes) -> SignedFiles:
    """Verify a bundle and compare it with a model's file or folder. The bundle itself, if it lies inside as `model.sig`, is left out.

    Raises:
        ModelSignatureError: as `verify_bundle`, or a file is missing, surplus or altered; each is named.
    """
    signed = verify_bundle(bundle, public_key)
    try:
        found = digest_files(path)
    except TrainingError as error:
        raise ModelSignatureError(str(error)) from None
    held = {"." if found.kind == "file" else item.path: item.sha256 for item in found.files}
    if BUNDLE_NAME not in signed.files and held.get(BUNDLE_NAME) == hashlib.sha256(bundle).hexdigest():
        held.pop(BUNDLE_NAME)
    problems = differences(signed.files, held)
    if problems:
        raise ModelSignatureError(f"{path}: not what was signed: {'; '.join(problems)}")
    return signed


# A version's files -------------------------------------------------------------------------------------------------------


def sealed_run(workspace: Workspace, model: str, version: str) -> Recorded[TrainingRun]:
    """Return the sealed run of a version.

    Raises:
        ModelSignatureError: there is none.
    """
    found = workspace.read().latest(TrainingRun, f"model/{model}@{version}")
    if found is None:
        raise ModelSignatureError(f"{model} {version} has no sealed training run, so there is no model to sign")
    return found


def recorded_files(run: TrainingRun) -> dict[str, str]:
    """The SHA-256 of each file of a sealed model by the name that a bundle has for it: `.` for a model that is one file."""
    if not run.model_files:
        return {".": run.model_file.digest.removeprefix("sha256:")}
    return {item.name: item.digest.removeprefix("sha256:") for item in run.model_files}


def export_model(workspace: Workspace, run: TrainingRun, target: Path) -> Path:
    """Write a sealed model's files out of the evidence store, each checked against its digest.

    Args:
        workspace: Where the evidence lies.
        run: The sealed run.
        target: A folder that does not exist yet.

    Returns:
        The model's file inside the target, or the target where the model is a folder.

    Raises:
        ModelSignatureError: the target exists, or a recorded name would leave it.
    """
    if target.exists():
        raise ModelSignatureError(f"{target}: it exists already; nothing is overwritten")
    items = run.model_files or (run.model_file,)
    for item in items:
        _confined(item)
    target.mkdir(parents=True)
    for item in items:
        path = target / item.name
        path.parent.mkdir(parents=True, exist_ok=True)
        workspace.evidence.copy_to(item.digest, path)
    return target if run.model_files else target / run.model_file.name


def _confined(item: EvidenceItem) -> None:
    if not stays_inside(item.name):
        raise ModelSignatureError(f"the recorded file name {item.name[:80]!r} would leave the folder")


# Signing ----------------------------------------------------------------------------------------------------------------


def sign_path(path: Path, private_key: Path, *, password: str | None = None) -> bytes:
    """Sign a model's file or folder with the library `model-signing`; every file is covered. Return the bundle.

    Args:
        path: The model.
        private_key: PEM of an elliptic-curve key (P-256, P-384 or P-521) that nobody else can read.
        password: The key's pass phrase, if it has one.

    Raises:
        ModelSignatureError: the library is not installed, the key is unusable or readable by others, or signing failed.
    """
    _require_private(private_key)
    try:
        from model_signing import hashing, signing
    except ImportError:
        raise ModelSignatureError(
            "signing needs the extra `model-signing`: pip install 'cognify-dagster[model-signing]'"
        ) from None
    with tempfile.TemporaryDirectory(prefix="cognify-sign-") as folder:
        out = Path(folder) / BUNDLE_NAME
        try:
            hashed = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
            # the library hands the pass phrase to `cryptography`, which takes bytes only
            secret: Any = None if password is None else password.encode("utf-8")
            config = signing.Config().use_elliptic_key_signer(private_key=private_key, password=secret)
            config.set_hashing_config(hashed).sign(path, out)
        except Exception as error:  # the library raises ValueError, TypeError and errors of its dependencies alike
            raise ModelSignatureError(f"{private_key}: signing failed: {' '.join(str(error).split())[:300]}") from None
        return out.read_bytes()


def _require_private(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ModelSignatureError(f"{path}: can't be read ({error.strerror})") from None
    if os.name == "posix" and mode & 0o077:
        raise ModelSignatureError(f"{path}: others can read this key (mode {mode:04o}); run `chmod 600` on it first")


def _public_half(private_key: Path, password: str | None) -> str:
    from cryptography.hazmat.primitives import serialization

    try:
        secret = None if password is None else password.encode("utf-8")
        key = serialization.load_pem_private_key(private_key.read_bytes(), secret)
    except (ValueError, TypeError) as error:
        raise ModelSignatureError(
            f"{private_key}: the key can't be opened ({' '.join(str(error).split())[:120]})"
        ) from None
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return read_public_key(pem)[1]


def sign_version(
    workspace: Workspace, model: str, version: str, private_key: Path, *, password: str | None = None
) -> Receipt:
    """Sign the files of a sealed model version and record the bundle.

    Signing twice with one key records one entry.

    Raises:
        ModelSignatureError: no sealed run, an unusable key, or the bundle does not list exactly the sealed files.
    """
    from importlib.metadata import version as installed

    found = sealed_run(workspace, model, version)
    _require_private(private_key)
    public = _public_half(private_key, password)
    hint = hashlib.sha256(public.encode("ascii")).hexdigest()
    for entry in signatures(workspace, model, version):
        if entry.record.key_hint == hint and entry.record.model_digest == found.record.model_file.digest:
            return Receipt(entry.seq, bytes.fromhex(entry.leaf), entry.time_us, duplicate=True)
    with tempfile.TemporaryDirectory(prefix="cognify-sign-") as folder:
        path = export_model(workspace, found.record, Path(folder) / f"{model}-{version}")
        bundle = sign_path(path, private_key, password=password)
    return record_bundle(
        workspace, model, version, bundle, public.encode("ascii"), tool=f"model-signing {installed('model-signing')}"
    )


def record_bundle(
    workspace: Workspace, model: str, version: str, bundle: bytes, public_key: bytes, *, tool: str = ""
) -> Receipt:
    """Record a bundle over a sealed version's files, also one that was made elsewhere, after verifying it.

    Raises:
        ModelSignatureError: it does not hold under the key, or does not list exactly the sealed files.
    """
    found = sealed_run(workspace, model, version)
    signed = verify_bundle(bundle, public_key)
    problems = differences(signed.files, recorded_files(found.record))
    if problems:
        raise ModelSignatureError(
            f"the bundle is not over the sealed files of {model} {version}: {'; '.join(problems)}"
        )
    record = ModelSignature(
        model=model,
        version=version,
        training_seq=found.seq,
        model_digest=found.record.model_file.digest,
        bundle=workspace.put(BUNDLE_NAME, bundle, MEDIA_TYPE),
        file_count=len(signed.files),
        public_key=read_public_key(public_key)[1],
        key_hint=signed.key_hint,
        algorithm=signed.algorithm,
        tool=tool,
    )
    key = idempotency_key("model_signature", model, version, record.bundle.digest)
    return workspace.append(record, idem=key)


def signatures(workspace: Workspace, model: str, version: str) -> list[Recorded[ModelSignature]]:
    """Return the recorded signatures of a version, oldest first."""
    return list(workspace.read().all(ModelSignature, f"model/{model}@{version}"))


def verify_version(
    workspace: Workspace, model: str, version: str, public_key: bytes | None = None
) -> list[tuple[Recorded[ModelSignature], str]]:
    """Verify every recorded signature of a version against the sealed files, each byte of which is read.

    Args:
        workspace: The workspace.
        model: Model key.
        version: Version id.
        public_key: Only signatures of this key count; without it each is verified with the key in its own entry.

    Returns:
        Each signature with what is wrong with it; empty text: it holds.

    Raises:
        ModelSignatureError: there is no signature, or none of that key.
        EvidenceError: a file of the model or the bundle is damaged or gone.
    """
    run = sealed_run(workspace, model, version)
    found = signatures(workspace, model, version)
    if not found:
        raise ModelSignatureError(
            f"{model} {version}: no signature over its files is recorded; see `cognify model-signature sign`"
        )
    if public_key is not None:
        hint = hashlib.sha256(read_public_key(public_key)[1].encode("ascii")).hexdigest()
        found = [entry for entry in found if entry.record.key_hint == hint]
        if not found:
            raise ModelSignatureError(f"{model} {version}: no recorded signature is of the key {hint}")
    held = recorded_files(run.record)
    for item in run.record.model_files or (run.record.model_file,):
        workspace.evidence.verify(item.digest)
    return [(entry, _problem(workspace, run, entry, held, public_key)) for entry in found]


def _problem(
    workspace: Workspace,
    run: Recorded[TrainingRun],
    entry: Recorded[ModelSignature],
    held: Mapping[str, str],
    public_key: bytes | None,
) -> str:
    record = entry.record
    if record.training_seq != run.seq or record.model_digest != run.record.model_file.digest:
        return "it is about another sealed run"
    try:
        signed = verify_bundle(workspace.evidence.get(record.bundle.digest), public_key or record.public_key.encode())
    except ModelSignatureError as error:
        return str(error)
    return "; ".join(differences(signed.files, held))
