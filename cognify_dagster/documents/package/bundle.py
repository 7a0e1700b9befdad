"""The bundle: everything an auditor needs to check one model version offline, as a folder or a zip (layout v1).

Invariants: the export is itself an entry, whose subject heads pin the newest entry about everything the bundle tells of, so nothing
before it can be left out unseen; entries are copied byte for byte and proven against one signed checkpoint that covers that entry;
payloads and evidence of others, and everything confidential or personal, stay inside; the target appears only when complete. The
trust file is never part of a bundle: an auditor gets it by another way. The layout is described in docs/bundle-format.md.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import VersionFacts, collect
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.governance import directory
from cognify_dagster.ledger import Checkpoint, ProofFile, VerifiedEntry, canonical_json, parse_note
from cognify_dagster.records import (
    AttestationMade,
    AttestationWithdrawn,
    BundleExported,
    EvidenceItem,
    Package,
    Record,
    SignOff,
    issuer_subject,
    utc,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

FORMAT = "cognify-bundle/v1"
MAX_EVIDENCE_BYTES = 5 * 1024 * 1024
MAX_RELIED_ON = 62  # an entry has at most 64 subjects; two are the model and the version
SHOWN_SENSITIVITIES = ("public", "internal")
GOVERNANCE_KINDS = frozenset(
    {"genesis", "person_enrolled", "workload_enrolled", "key_revoked", "policy_adopted", "gate_set_adopted"}
    | {"delegated", "delegation_ended", "person_recertified", "person_recovered", "entry_disregarded"}
    | {"log_key_rotated", "log_key_revoked", "clock_floor_corrected"}  # a checkpoint's worth and times depend on them
)
_RELYING = ("release_granted", "bundle_exported")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

README = """\
Evidence bundle of one model version
====================================

Model {model}, version {version}. Ledger {origin}. Exported {created}.
{trial}
What this is: the package that people signed (package/package.json), its readable copies, the ledger entries about the
version, its model, data, people and policy, with proofs, and the evidence that may leave the house.

How to verify it, offline, with Python 3.10 or newer and nothing else:

    python -I verify.py . --trust trust.txt

trust.txt is NOT in this bundle, and must not be taken from it: get it from the organisation by another way (it is a short
text with the ledger's public key and the hash of its first entry). Use the verify.py of this bundle only if its SHA-256 is
the one that the project publishes for its release; else take the verifier from there.

With the product installed:

    cognify verify . --trust trust.txt

Results: 0 holds, 1 tampered, 2 rolled back or forked, 3 unreadable, 4 unproven, 5 wrong usage. The verifier also says what
it does not check. Copies in PDF are not sealed; their hashes stand in the ledger.

Whether a record or file was in a dataset is shown by a proof file, which is asked for apart from this bundle. The dataset's
root stands in the payload of its dataset_snapshot entry:

    python -I verify_dataset_proof.py proof.json --root HEX

Layout: bundle.json (list of files), package/, ledger/entries (verbatim), ledger/proofs, ledger/payloads (those disclosed),
ledger/checkpoint.txt, evidence/register.json and the files it names.
"""


@dataclass(frozen=True)
class _File:
    """One file of the bundle."""

    path: str
    data: bytes
    role: str


def export_bundle(
    ws: Workspace, model: str, version: str, out: Path, *, exported_by: str = "unattributed", as_zip: bool = False
) -> Path:
    """Export the bundle of a model version.

    Args:
        ws: the workspace; it needs the log key, since the export ends in a signed checkpoint.
        model: model key.
        version: version id.
        out: the folder to create (it may exist if empty), or the zip file to create.
        exported_by: person id, or "unattributed".
        as_zip: write a zip instead of a folder.

    Returns:
        The path that was created.

    Raises:
        DocumentError: if the target exists and is not empty, there is no package, or something to be exported is missing.
        LedgerError: if the ledger cannot be read or signed.
    """
    out = Path(out)
    _check_target(out, as_zip)
    if ws.ledger.signer is None:
        raise DocumentError("this workspace has no log key, so the bundle could not be proven; export where the key is")
    seq = record_export(ws, model, version, exported_by=exported_by)
    return write_bundle(ws, seq, out, as_zip=as_zip)


def record_export(ws: Workspace, model: str, version: str, *, exported_by: str = "unattributed") -> int:
    """Record that a bundle of the present state leaves the house; return the entry, from which `write_bundle` makes it.

    Raises:
        DocumentError: if there is no package.
        LedgerError: if the ledger cannot be read or signed; the entry may be kept then.
    """
    facts = collect(ws.read(), model, version)
    if facts.package is None:
        raise DocumentError(f"{model} {version} has no package; build it before exporting")
    record = BundleExported(
        model=model,
        version=version,
        package_digest=facts.package.record.package.digest,
        relied_on=relied_on(ws.read(facts.size), facts),
        exported_by=exported_by,
    )
    key = idempotency_key("bundle_exported", model, version, facts.size)
    return ws.append(record, idem=key, checkpoint=True).seq


def covering_note(ws: Workspace, seq: int) -> str | None:
    """Return the newest kept checkpoint that covers an entry, of one size the one with the most signatures; None if there is none."""
    covering = [kept for kept in ws.ledger.store.checkpoints(seq) if kept[0] > seq]
    return max(covering, key=lambda kept: (kept[0], kept[1].count("\n\u2014 ")))[1] if covering else None


def write_bundle(ws: Workspace, seq: int, out: Path, *, as_zip: bool = False) -> Path:
    """Make the bundle of an export that is recorded. The ledger is read, and nothing is written to it.

    Raises:
        DocumentError: if the target exists and is not empty, no checkpoint covers the entry, or something in it is missing.
        LedgerError: if the ledger cannot be read.
    """
    _check_target(out, as_zip)
    note = covering_note(ws, seq)
    if note is None:
        raise DocumentError(f"no checkpoint covers the export in entry {seq}; run `cognify ledger checkpoint`")
    checkpoint = Checkpoint.parse(parse_note(note).text)
    reading = ws.read(checkpoint.size)
    if reading.view.root != checkpoint.root:
        raise DocumentError("the newest checkpoint is not that of these entries; run `cognify ledger verify`")
    export = reading.find(BundleExported, seq)
    if export is None:
        raise DocumentError(f"entry {seq} is no export of a bundle")
    model, version, digest = export.record.model, export.record.version, export.record.package_digest
    packages = reading.all(Package, f"model/{model}@{version}")
    package = next((item for item in reversed(packages) if item.record.package.digest == digest), None)
    if package is None:
        raise DocumentError(f"entry {seq} exports the package {digest}, which is not in the ledger")
    files = _files(ws, reading, model, version, seq, note, package)
    return _write(files, _manifest(reading, model, version, digest, seq, files), out, as_zip)


def relied_on(reading: Reading, facts: VersionFacts) -> tuple[str, ...]:
    """Return the subjects whose whole history a bundle holds.

    Raises:
        DocumentError: if there are more than one entry can name.
    """
    found = {facts.subject, f"model/{facts.model}", "policy", "people", "ledger"}
    found |= {f"dataset/{item.ref.name}" for item in facts.all_datasets()}
    whole = f"oversight/{facts.model}"
    for item in reading.view.history(facts.subject):
        found |= {s for s in item.entry.subjects if s.split("/")[0] in ("person", "dataset", "gates", "release")}
    for item in reading.view.history(whole):
        if item.entry.kind not in _RELYING:  # those of other versions
            found |= {s for s in item.entry.subjects if s.startswith("person/")}
    found |= {name for name in ("findings", "erasures", whole) if name in reading.view.heads}
    found |= _issuers(reading, facts.subject)
    wanted = tuple(sorted(found - {facts.subject, f"model/{facts.model}"}))
    if len(wanted) > MAX_RELIED_ON:
        raise DocumentError(f"the version relies on {len(wanted)} subjects; one export can name {MAX_RELIED_ON}")
    return wanted


def _issuers(reading: Reading, subject: str) -> set[str]:
    """The subjects of the issuers at which people signed in to sign this version: their archived keys, and what groups stand for.

    At which issuer somebody is known stands in their enrolment, which every bundle holds.
    """
    people, found = directory(reading), set[str]()
    for item in reading.all(SignOff, subject):
        key = people.key_at(item.record.person, item.record.key_id, item.seq)
        if key is not None and key.oidc is not None:
            found.add(issuer_subject(key.oidc.issuer))
    return {name for name in found if name in reading.view.heads}


def _check_target(out: Path, as_zip: bool) -> None:
    if as_zip and out.exists():
        raise DocumentError(f"{out}: the file exists; choose another name")
    if not as_zip and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DocumentError(f"{out}: the folder is not empty; choose another, so that nothing old is taken for new")
    if not out.parent.is_dir():
        raise DocumentError(f"{out.parent}: there is no such folder; create it first")


def _files(
    ws: Workspace, reading: Reading, model: str, version: str, anchor: int, note: str, package: Recorded[Package]
) -> list[_File]:
    subject = f"model/{model}@{version}"
    chosen = closure(reading, anchor)
    facts = collect(reading, model, version)
    data = _data_seqs(reading, facts) | _attestation_seqs(reading, facts)
    pinned = reading.view.entries[anchor].entry.subjects
    told = {subject, f"oversight/{model}", *(name for name in pinned if name.startswith("issuer/"))}
    disclosed = [item for item in chosen if _disclosed(item, told, data)]
    files = [_File("ledger/checkpoint.txt", note.encode(), "checkpoint")]
    size = reading.size
    for item in chosen:
        seq = item.entry.seq
        proof = ProofFile(seq, tuple(ws.ledger.inclusion(seq, size)), note)
        files.append(_File(f"ledger/entries/{seq:08d}.json", item.entry.data, "entry"))
        files.append(_File(f"ledger/proofs/{seq:08d}.tlog-proof", proof.text().encode(), "proof"))
    for item in disclosed:
        if item.payload is None or item.salt is None:
            continue  # erased lawfully; the entry stays
        body = base64.b64encode(canonical_json(item.payload)).decode()
        content = canonical_json({"payload": body, "salt": item.salt.hex()})
        files.append(_File(f"ledger/payloads/{item.entry.seq:08d}.json", content, "payload"))
    files += _package_files(ws, facts, package)
    files += _evidence_files(ws, reading, disclosed)
    trial = "TRIAL: this ledger was opened for trial by one person. It is no evidence.\n" if reading.trial else ""
    created = _time(reading, anchor)
    text = README.format(model=model, version=version, origin=reading.origin, created=created, trial=trial)
    files.append(_File("README.txt", text.encode(), "readme"))
    files.append(_File("verify.py", _verifier(), "verifier"))
    files.append(_File("verify_dataset_proof.py", _proof_verifier(), "verifier"))
    return files


def closure(reading: Reading, anchor: int) -> list[VerifiedEntry]:
    """Return the anchor and the whole history of each of its subjects before it, in order."""
    first = reading.view.entries[anchor]
    found = {anchor: first}
    for subject in first.entry.subjects:
        seq = first.entry.heads[subject]
        while seq >= 0:
            found[seq] = reading.view.entries[seq]
            seq = found[seq].entry.heads[subject]
    return [found[seq] for seq in sorted(found)]


def _data_seqs(reading: Reading, facts: VersionFacts) -> set[int]:
    """The entries about the data that this version relied on, and no other snapshot."""
    seqs = {item.snapshot.seq for item in facts.all_datasets() if item.snapshot is not None}
    return seqs | {item.seq for item in facts.overlaps}


def _attestation_seqs(reading: Reading, facts: VersionFacts) -> set[int]:
    """The attestations about the model as a whole, this version and its data, and their withdrawals; none about other versions."""
    about = {f"model/{facts.model}", facts.subject, *(f"dataset/{item.ref.name}" for item in facts.all_datasets())}
    made = {item.seq for name in about for item in reading.all(AttestationMade, name) if item.record.about == name}
    ended = [item for name in about for item in reading.all(AttestationWithdrawn, name) if item.record.about == name]
    return made | {item.seq for item in ended}


def _disclosed(item: VerifiedEntry, told: set[str], data: set[int]) -> bool:
    """Whether a payload may leave: about the version, the model's oversight or an issuer, about people and policy, or its data.

    A release or export of another version has the model's oversight, or an issuer, as a subject only because it relied on it.
    """
    entry = item.entry
    about = told & set(entry.subjects)
    if entry.kind in _RELYING:
        about -= {name for name in about if name.startswith(("oversight/", "issuer/"))}
    return bool(about) or entry.kind in GOVERNANCE_KINDS | {"model_registered"} or entry.seq in data


def _package_files(ws: Workspace, facts: VersionFacts, package: Recorded[Package]) -> list[_File]:
    record = package.record
    digest = record.package.digest
    wanted: list[tuple[str, EvidenceItem | None, str]] = [
        ("package/package.json", record.package, "package"),
        ("package/review-copy.pdf", record.review_copy, "review copy"),
        ("package/model-card.md", record.model_card, "model card"),
    ]
    finals = [item for item in facts.final_copies if item.record.package_digest == digest]
    if finals:
        wanted.append(("package/final-copy.pdf", finals[-1].record.final_copy, "final copy"))
    return [_File(path, _blob(ws, item), role) for path, item, role in wanted if item is not None]


def _blob(ws: Workspace, item: EvidenceItem) -> bytes:
    try:
        return ws.evidence.get(item.digest)
    except (EvidenceError, OSError) as error:
        raise DocumentError(f"{item.name} ({item.digest}) cannot be read from evidence: {error}") from error


def _evidence_files(ws: Workspace, reading: Reading, disclosed: Iterable[VerifiedEntry]) -> list[_File]:
    """The register of all evidence that disclosed entries name, and the blobs that may leave."""
    register: list[dict[str, Any]] = []
    blobs: dict[str, bytes] = {}
    for item in disclosed:
        record = reading.at(item.entry.seq)
        for part in _items(record.record) if record is not None else []:
            if part.digest not in item.entry.evidence:
                continue
            included = part.digest in blobs
            if not included and part.sensitivity in SHOWN_SENSITIVITIES and part.size <= MAX_EVIDENCE_BYTES:
                try:
                    blobs[part.digest] = ws.evidence.get(part.digest)
                    included = True
                except (EvidenceError, OSError):
                    included = False  # the register says so; the entry still proves its hash
            entry = {"name": part.name, "entry_seq": item.entry.seq, "included": included, "digest": part.digest}
            register.append(
                {**entry, "size": part.size, "media_type": part.media_type, "sensitivity": part.sensitivity}
            )
    files = [_File("evidence/register.json", canonical_json(register), "evidence register")]
    return files + [_File(f"evidence/{key[7:]}", data, "evidence") for key, data in sorted(blobs.items())]


def _items(value: Any) -> list[EvidenceItem]:
    """Every evidence reference inside a record, in field order."""
    if isinstance(value, EvidenceItem):
        return [value]
    if isinstance(value, (list, tuple)):
        return [found for part in value for found in _items(part)]
    if isinstance(value, Record) or hasattr(type(value), "model_fields"):
        return [found for name in type(value).model_fields for found in _items(getattr(value, name))]
    return []


def _verifier() -> bytes:
    import cognify_dagster.ledger as ledger_room

    path = Path(str(ledger_room.__file__)).with_name("offline_verifier.py")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DocumentError(f"{path}: the offline verifier is missing; install the package again") from error


def _proof_verifier() -> bytes:
    from cognify_dagster.datasets import proof_verifier

    return Path(proof_verifier.__file__).read_bytes()


def _time(reading: Reading, seq: int) -> str:
    return utc(datetime.fromtimestamp(reading.view.entries[seq].entry.time_us / 1e6, tz=timezone.utc))


def _manifest(reading: Reading, model: str, version: str, digest: str, anchor: int, files: list[_File]) -> bytes:
    listed = [
        {"path": f.path, "sha256": hashlib.sha256(f.data).hexdigest(), "size": len(f.data), "role": f.role}
        for f in sorted(files, key=lambda f: f.path)
    ]
    return canonical_json(
        {
            "format": FORMAT,
            "ledger": reading.origin,
            "model": model,
            "version": version,
            "package_digest": digest,
            "anchor_seq": anchor,
            "size": reading.size,
            "created": _time(reading, anchor),
            "trial": reading.trial,
            "files": listed,
        }
    )


def _write(files: list[_File], manifest: bytes, out: Path, as_zip: bool) -> Path:
    """Write beside the target, then rename, so that a bundle is there as a whole or not at all."""
    everything = [*sorted(files, key=lambda f: f.path), _File("bundle.json", manifest, "manifest")]
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        if as_zip:
            target = temporary / "bundle.zip"
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for item in everything:
                    info = zipfile.ZipInfo(item.path, _ZIP_TIME)
                    info.external_attr = 0o644 << 16
                    archive.writestr(info, item.data, compress_type=zipfile.ZIP_DEFLATED)
            _sync(target)
            os.replace(target, out)
        else:
            target = temporary / "bundle"
            for item in everything:
                path = target / item.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(item.data)
                _sync(path)
            if out.exists():
                out.rmdir()
            os.rename(target, out)
        _sync_folder(out.parent)
    except OSError as error:
        raise DocumentError(f"{out}: the bundle could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
