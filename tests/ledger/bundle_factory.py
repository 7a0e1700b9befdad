"""Builds a whole governed story and its bundle straight from ledger, records and the written format.

It shares no code with governance or documents: it is the second implementation that the offline verifier is tested with.
Keys are fixed, so that a test can forge with them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import (
    Checkpoint,
    Draft,
    Ledger,
    LogSigner,
    ProofFile,
    SqliteStore,
    TrustFile,
    canonical_json,
    open_checkpoint,
    pae,
    write_private,
)
from cognify_dagster.ledger import offline_verifier as verifier_module
from cognify_dagster.records import (
    BundleExported,
    CodeRef,
    DatasetRef,
    DatasetSnapshot,
    DeploymentCompleted,
    Envelope,
    EnvironmentRef,
    EvidenceItem,
    FinalCopy,
    GateResult,
    GateRule,
    GateSetAdopted,
    Genesis,
    KeyRevoked,
    ModelRegistered,
    Package,
    Person,
    PersonEnrolled,
    PolicyAdopted,
    PublicKey,
    Record,
    ReleaseGranted,
    SignOff,
    TrainingRun,
    VersionOpened,
    Workload,
    WorkloadEnrolled,
)

ORIGIN = "bank.example/demo/models"
MODEL, VERSION = "credit_default", "1"
MINE = f"model/{MODEL}@{VERSION}"
START_US = 1_760_000_000_000_000
SIGNED_AT = "2025-10-09T09:00:00Z"
PACKAGE = canonical_json({"model": MODEL, "version": VERSION, "auc": 0.7731, "rows": 29_965})
MODEL_FILE = b"the model's bytes"
STAGES = {
    "val": ("validation", "model_validator"),
    "com": ("compliance", "compliance_officer"),
    "biz": ("business", "business_owner"),
}


def private(name: str) -> Ed25519PrivateKey:
    """A fixed test key."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"test key of {name}".encode()).digest())


def raw_public(name: str) -> bytes:
    return private(name).public_key().public_bytes_raw()


def key_id(name: str) -> str:
    return hashlib.sha256(raw_public(name)).hexdigest()[:16]


def public(name: str) -> PublicKey:
    return PublicKey(key_id=key_id(name), public=base64.b64encode(raw_public(name)).decode())


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def evidence_item(name: str, data: bytes, media_type: str = "application/json") -> EvidenceItem:
    return EvidenceItem(name=name, digest=digest(data), size=len(data), media_type=media_type)


def person(name: str, *roles: str, key: str | None = None) -> Person:
    return Person(person=f"person/{name}", name=name.title(), roles=roles, keys=(public(key or name),))


def envelope(statement: bytes, key: str) -> Envelope:
    """Sign statement bytes into a DSSE envelope, written out by hand."""
    signature = private(key).sign(pae("application/vnd.in-toto+json", statement))
    return Envelope.model_validate(
        {
            "payload": base64.b64encode(statement).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"keyid": key_id(key), "sig": base64.b64encode(signature).decode()}],
        }
    )


PLACEHOLDER = Envelope(payload="", payloadType="", signatures=())


class World:
    """A ledger in a folder with the means to append anything to it, honest or forged."""

    def __init__(self, folder: Path, *, trial: bool = False) -> None:
        self.folder = folder
        self.trial = trial
        folder.mkdir(parents=True, exist_ok=True)
        self.now = START_US
        write_private(folder / "log.key", hashlib.sha256(b"test key of log").digest())
        self.signer = LogSigner(folder / "log.key", folder / "signer.json", ORIGIN)
        self.ledger = Ledger(
            SqliteStore.create(folder / "ledger.sqlite", ORIGIN), signer=self.signer, clock_us=self._tick
        )
        self.blobs: dict[str, tuple[bytes, str, int]] = {}
        self.counter = 0

    def _tick(self) -> int:
        self.now += 60_000_000
        return self.now

    def append(
        self, record: Record, actor: str, *, writer: str | None = "pipeline", subjects: tuple[str, ...] | None = None
    ) -> int:
        self.counter += 1
        receipt = self.ledger.append(
            Draft(
                kind=record.kind,
                schema=record.schema_version,
                subjects=record.subjects() if subjects is None else subjects,
                actor=actor,
                idem=hashlib.sha256(f"{record.kind} {self.counter}".encode()).hexdigest(),
                payload=record.payload(),
                facts_digest=record.facts_digest(),
                evidence=record.evidence(),
                key_id=key_id(writer) if writer else "",
                sign=private(writer).sign if writer else None,
            )
        )
        return receipt.seq

    def head(self) -> dict[str, Any]:
        view = self.ledger.view()
        return {"size": view.size, "root": view.root.hex()}

    def act(self, record: Record, who: str, *, key: str | None = None, **changed: Any) -> Envelope:
        """Sign a governance record; `changed` overrides members of the predicate (for forgeries)."""
        facts = {k: v for k, v in record.facts().items() if k not in ("envelope", "envelopes")}
        predicate = {
            "ledger": ORIGIN,
            "kind": record.kind,
            "meaning": "I mean it.",
            "person": f"person/{who}",
            "key_id": key_id(key or who),
            "role": "workspace_admin",
            "checkpoint": self.head(),
            "signed_at": SIGNED_AT,
            **changed,
        }
        statement = canonical_json(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [
                    {"name": record.kind, "digest": {"sha256": hashlib.sha256(canonical_json(facts)).hexdigest()}}
                ],
                "predicateType": "urn:cognify:predicate:act:v1",
                "predicate": predicate,
            }
        )
        return envelope(statement, key or who)

    def found(self, *, signers: tuple[str, ...] | None = None, policy: dict[str, Any] | None = None) -> int:
        policy = policy or {"version": 1, "adopters": ["workspace_admin"], "policy_quorum": 2, "title": "Test policy"}
        founders = ("ada",) if self.trial else ("ada", "bo")
        record = Genesis(
            origin=ORIGIN,
            log_key=str(self.signer.verifier),
            trial=self.trial,
            founders=tuple(person(name, "workspace_admin") for name in founders),
            workloads=(Workload(workload="workload/pipeline", key=public("pipeline"), kinds=ALL_KINDS),),
            policy=policy,
            policy_digest=digest(canonical_json(policy)),
            recovery_threshold=2,
            recovery_keys=tuple(public(f"recovery{n}") for n in (1, 2, 3)),
            created=SIGNED_AT,
        )
        self.policy_digest = record.policy_digest
        envelopes = tuple(self.act(record, name) for name in signers or founders)
        return self.append(record.model_copy(update={"envelopes": envelopes}), "person/ada")

    def enrol(
        self, who: Person, voucher: str = "ada", *witnesses: str, vouched_by: str | None = None, **changed: Any
    ) -> int:
        """Enrol a person; each of voucher and witnesses signs. `changed` is for the voucher's statement."""
        record = PersonEnrolled(
            person=who,
            vouched_by=f"person/{vouched_by or voucher}",
            witnesses=tuple(f"person/{name}" for name in witnesses),
            envelope=PLACEHOLDER,
        )
        signed = {
            "envelope": self.act(record, voucher, **changed),
            "envelopes": tuple(self.act(record, name) for name in witnesses),
        }
        return self.append(record.model_copy(update=signed), f"person/{voucher}")

    def enrol_workload(self, workload: Workload, by: str = "ada") -> int:
        record = WorkloadEnrolled(workload=workload, enrolled_by=f"person/{by}", envelope=PLACEHOLDER)
        return self.append(record.model_copy(update={"envelope": self.act(record, by)}), f"person/{by}")

    def revoke(self, who: str, by: str = "ada") -> int:
        record = KeyRevoked(
            holder=f"person/{who}", key_id=key_id(who), reason="lost", revoked_by=f"person/{by}", envelope=PLACEHOLDER
        )
        return self.append(record.model_copy(update={"envelope": self.act(record, by)}), f"person/{by}")

    def adopt_policy(self, policy: dict[str, Any], *signers: str) -> int:
        record = PolicyAdopted(policy=policy, policy_digest=digest(canonical_json(policy)), reason="new", envelopes=())
        envelopes = tuple(self.act(record, name) for name in signers)
        seq = self.append(record.model_copy(update={"envelopes": envelopes}), f"person/{signers[0]}")
        self.policy_digest = record.policy_digest
        return seq

    def joint(self, record: Record, *signers: str, subjects: tuple[str, ...] | None = None) -> int:
        """Append an act that several people sign."""
        envelopes = tuple(self.act(record, name) for name in signers)
        return self.append(record.model_copy(update={"envelopes": envelopes}), "workload/pipeline", subjects=subjects)

    def adopt_gates(self, by: str = "val") -> int:
        gate = GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=0.7, source="policy")
        record = GateSetAdopted(
            name="credit_gates", model=MODEL, gates=(gate,), digest=digest(b"gates"), adopted_by=f"person/{by}",
            envelope=PLACEHOLDER,
        )  # fmt: skip
        return self.append(record.model_copy(update={"envelope": self.act(record, by)}), f"person/{by}")

    def statement(self, who: str, package_seq: int, **changed: Any) -> dict[str, Any]:
        """The sign-off statement of a person, as the format page says; `changed` overrides predicate members."""
        stage, role = STAGES.get(who, ("validation", "model_validator"))
        package = self.ledger.view().entries[package_seq]
        assert package.payload is not None
        facts = package.payload["facts"]
        predicate = {
            "ledger": ORIGIN,
            "model": facts["model"],
            "version": facts["version"],
            "package": {
                "digest": facts["package"]["digest"],
                "entry_seq": package_seq,
                "entry_leaf": package.entry.leaf.hex(),
            },
            "model_digest": facts["model_digest"],
            "decision": "approve",
            "stage": stage,
            "role": role,
            "meaning": "I reviewed this package and approve it.",
            "comments": "",
            "conditions": [],
            "links": [],
            "target_environments": ["production"],
            "expires": None,
            "viewed": {"digest": digest(b"review copy"), "media_type": "application/pdf"},
            "checkpoint": self.head(),
            "policy_digest": self.policy_digest,
            "person": f"person/{who}",
            "printed_name": who.title(),
            "key_id": key_id(who),
            "signed_at": SIGNED_AT,
            "reference": None,
            **changed,
        }
        name = f"model/{predicate['model']}@{predicate['version']}"
        return {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [
                {"name": f"{name}/package", "digest": {"sha256": predicate["package"]["digest"][7:]}},
                {"name": f"{name}/model-file", "digest": {"sha256": predicate["model_digest"][7:]}},
            ],
            "predicateType": "urn:cognify:predicate:sign-off:v1",
            "predicate": predicate,
        }

    def sign_off(
        self,
        who: str,
        package_seq: int,
        *,
        key: str | None = None,
        record: dict[str, Any] | None = None,
        **changed: Any,
    ) -> int:
        """Append a sign-off; `record` overrides the record's own fields, so that it lies about its statement."""
        statement = self.statement(who, package_seq, **changed)
        said, payload = statement["predicate"], canonical_json(statement)
        fields: dict[str, Any] = {
            **{name: said[name] for name in ("model", "version", "stage", "decision", "role", "person", "key_id")},
            "strength": "S3",
            "package_digest": said["package"]["digest"],
            "package_seq": said["package"]["entry_seq"],
            "statement_digest": hashlib.sha256(payload).hexdigest(),
            "signed_at": said["signed_at"],
            "envelope": envelope(payload, key or who),
            **(record or {}),
        }
        return self.append(SignOff(**fields), f"person/{who}")

    def blob(self, name: str, data: bytes, media_type: str = "application/json") -> EvidenceItem:
        item = evidence_item(name, data, media_type)
        self.blobs[item.digest] = (data, media_type, -1)
        return item

    def prepare(self, version: str = VERSION, package: bytes = PACKAGE) -> int:
        """Dataset, training, gates and package of one version; return the package's sequence number."""
        data = self.append(
            DatasetSnapshot(
                name="loans", root="ab" * 32, data_version="v1", file_count=1, total_bytes=10,
                profile=self.blob("profile", b"{}"), manifest=self.blob("manifest", b"[]"),
            ),
            "workload/pipeline",
        )  # fmt: skip
        self.append(
            VersionOpened(model=MODEL, version=version, run="run-1", opened_by="person/ada"), "workload/pipeline"
        )
        run = self.append(
            TrainingRun(
                model=MODEL,
                version=version,
                datasets=(DatasetRef(name="loans", root="ab" * 32, seq=data, role="train"),),
                model_file=evidence_item("model", MODEL_FILE, "application/octet-stream"),
                code=CodeRef(vcs="git"),
                environment=EnvironmentRef(
                    python="3.11", platform="linux", packages_digest="cd" * 32, gpu="none", container_image="",
                    detail=self.blob("environment", b'{"python":"3.11"}'),
                ),
                launched_by="person/ada",
                started_after_seq=data + 1,
            ),
            "workload/pipeline",
        )  # fmt: skip
        self.gate_seq = self.append(
            GateResult(model=MODEL, version=version, family="performance", status="pass", based_on=(run,)),
            "workload/pipeline",
        )
        return self.append(
            Package(
                model=MODEL,
                version=version,
                revision=1,
                package=evidence_item("package", package),
                review_copy=evidence_item("review copy", b"review copy", "application/pdf"),
                model_card=evidence_item("model card", b"# Model card\n", "text/markdown"),
                model_digest=digest(MODEL_FILE),
                training_seq=run,
                evaluation_seq=None,
                dataset_seqs=(data,),
                policy_digest=self.policy_digest,
                built_by="person/ada",
                built_from_size=run + 1,
            ),
            "workload/pipeline",
        )

    def grant(self, package: int, sign_offs: list[int], **changed: Any) -> int:
        facts = self.ledger.view().entries[package].payload
        assert facts is not None
        fields: dict[str, Any] = {
            "model": MODEL,
            "version": VERSION,
            "target": "production",
            "round": "ef" * 32,
            "package_digest": facts["facts"]["package"]["digest"],
            "package_seq": package,
            "model_digest": digest(MODEL_FILE),
            "sign_off_seqs": tuple(sign_offs),
            "gate_seqs": (self.gate_seq,),
            "decided_on_size": self.ledger.size(),
            "decided_at": SIGNED_AT,
            "policy_digest": self.policy_digest,
            "relied_on": ("dataset/loans", "people", "policy", "person/val", "person/com", "person/biz"),
            **changed,
        }
        return self.append(ReleaseGranted(**fields), "workload/pipeline")

    def deploy(self, grant_seq: int, **changed: Any) -> int:
        fields = {
            "model": MODEL,
            "version": VERSION,
            "target": "production",
            "model_digest": digest(MODEL_FILE),
            **changed,
        }
        return self.append(DeploymentCompleted(grant_seq=grant_seq, **fields), "workload/pipeline")

    def anchor(self, *, leave_out: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> int:
        relied = {"policy", "people", "ledger", "person/val", "person/com", "person/biz", "person/ada", "person/bo"}
        relied |= {"dataset/loans", "gates/credit_gates", f"release/{MODEL}.production", f"oversight/{MODEL}"}
        relied |= {f"release/{MODEL}.staging", "person/eve", "person/pat", *also}
        return self.append(
            BundleExported(
                model=MODEL, version=VERSION, package_digest=digest(PACKAGE), relied_on=tuple(sorted(relied - set(leave_out)))
            ),
            "workload/pipeline",
        )  # fmt: skip

    def trust(self, **changed: Any) -> str:
        fields = {"logs": (self.signer.verifier,), "genesis": self.ledger.view(1).entries[0].entry.leaf, **changed}
        return TrustFile(**fields).text()


ALL_KINDS = tuple(
    sorted(
        {
            "person_enrolled", "workload_enrolled", "key_revoked", "policy_adopted", "gate_set_adopted",
            "model_registered", "dataset_snapshot", "version_opened", "training_run", "gate_result", "package", "sign_off",
            "release_granted", "deployment_completed", "final_copy", "bundle_exported", "payload_erased",
            "log_key_rotated", "log_key_revoked", "clock_floor_corrected", "model_event", "finding",
        }
    )
)  # fmt: skip

Step = Callable[[World, int], object]


def tell(folder: Path, *, trial: bool = False, before_sign: Step | None = None, before_grant: Step | None = None,
         before_anchor: Step | None = None, policy: dict[str, Any] | None = None) -> World:  # fmt: skip
    """The whole story up to, not including, the anchor. The hooks get the world and the package's sequence number.

    With a policy of its own, enrolments have two vouchers.
    """
    world = World(folder, trial=trial)
    world.found(policy=policy)
    for name, (_, role) in STAGES.items():
        world.enrol(person(name, role), "ada", *(["bo"] if policy else []))
    world.append(ModelRegistered(model=MODEL, owner="team:credit", risk_tier="high"), "person/ada")
    world.adopt_gates()
    package = world.prepare()
    if before_sign:
        before_sign(world, package)
    signed = [world.sign_off(name, package) for name in STAGES]
    if before_grant:
        before_grant(world, package)
    world.deploy(world.grant(package, signed))
    world.append(
        FinalCopy(model=MODEL, version=VERSION, package_digest=digest(PACKAGE),
                  final_copy=evidence_item("final copy", b"final copy", "application/pdf")),
        "workload/pipeline",
    )  # fmt: skip
    if before_anchor:
        before_anchor(world, package)
    return world


def export(world: World, out: Path, *, anchor_seq: int | None = None, note: str | None = None) -> Path:
    """Write the bundle of the anchor (appended here unless given) in layout v1."""
    anchor = world.anchor() if anchor_seq is None else anchor_seq
    note = note or world.ledger.sign_checkpoint()
    checkpoint = open_checkpoint(note, [world.signer.verifier])
    view = world.ledger.view()
    wanted = {anchor}
    for subject in view.entries[anchor].entry.subjects:
        at = view.entries[anchor].entry.heads[subject]
        while at >= 0:
            wanted.add(at)
            at = view.entries[at].entry.heads[subject]
    shutil.rmtree(out, ignore_errors=True)
    put(out, "README.txt", b"python verify.py . --trust trust.txt\n")
    put(out, "verify.py", Path(verifier_module.__file__).read_bytes())
    put(out, "package/package.json", PACKAGE)
    put(out, "package/review-copy.pdf", b"review copy")
    put(out, "package/final-copy.pdf", b"final copy")
    put(out, "package/model-card.md", b"# Model card\n")
    put(out, "ledger/checkpoint.txt", note.encode())
    register = []
    for seq in sorted(wanted):
        item = view.entries[seq]
        put(out, f"ledger/entries/{seq:08d}.json", item.entry.data)
        proof = ProofFile(seq, tuple(world.ledger.inclusion(seq, checkpoint.size)), note)
        put(out, f"ledger/proofs/{seq:08d}.tlog-proof", proof.text().encode())
        if item.payload is not None and item.salt is not None:
            payload = base64.b64encode(canonical_json(item.payload)).decode()
            put(out, f"ledger/payloads/{seq:08d}.json", canonical_json({"payload": payload, "salt": item.salt.hex()}))
        for found in item.entry.evidence:
            if found in {entry["digest"] for entry in register}:
                continue
            data, media_type, _ = world.blobs.get(found, (None, "application/octet-stream", 0))
            register.append(
                {
                    "digest": found, "size": len(data or b""), "media_type": media_type, "sensitivity": "internal",
                    "name": "x", "entry_seq": seq, "included": data is not None,
                }
            )  # fmt: skip
            if data is not None:
                put(out, f"evidence/{found[7:]}", data)
    put(out, "evidence/register.json", canonical_json(register))
    manifest = {
        "format": "cognify-bundle/v1", "ledger": ORIGIN, "model": MODEL, "version": VERSION, "created": SIGNED_AT,
        "package_digest": digest(PACKAGE), "anchor_seq": anchor, "size": checkpoint.size, "trial": world.trial,
    }  # fmt: skip
    reseal(out, manifest)
    return out


def put(out: Path, name: str, data: bytes) -> None:
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def reseal(out: Path, manifest: dict[str, Any] | None = None, **changed: Any) -> None:
    """Write bundle.json so that its list fits the files, as an attacker would after changing some."""
    manifest = manifest or json.loads((out / "bundle.json").read_bytes())
    roles = {"package": "package", "ledger": "proof", "evidence": "evidence"}
    files = []
    for path in sorted(p for p in out.rglob("*") if p.is_file() and p.name != "bundle.json"):
        name = path.relative_to(out).as_posix()
        data = path.read_bytes()
        role = roles.get(name.split("/")[0], "tool")
        files.append({"path": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "role": role})
    files.sort(key=lambda item: str(item["path"]))
    put(out, "bundle.json", canonical_json({**manifest, **changed, "files": files}))


def zipped(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return target


def cosign(note: str, name: str, key: str, time_s: int = 1_760_000_100) -> str:
    """Add a C2SP Ed25519 cosignature line to a checkpoint note."""
    text = note[: note.rindex("\n\n") + 1]
    public_bytes = raw_public(key)
    identity = hashlib.sha256(name.encode() + b"\n\x04" + public_bytes).digest()[:4]
    signature = private(key).sign(f"cosignature/v1\ntime {time_s}\n{text}".encode())
    blob = base64.b64encode(identity + time_s.to_bytes(8, "big") + signature).decode()
    return f"{note}— {name} {blob}\n"


def rehead(world: World) -> Checkpoint:
    """The world's present head."""
    return world.ledger.view().checkpoint()
