"""Make the frozen vectors of ledger and statement formats: fixed keys, salts and times, written once, compared for ever.

    python -m tests.golden.make_ledger_vectors            # (re)make tests/golden/ledger and tests/golden/statement
    python -m tests.golden.make_ledger_vectors --bundle   # also freeze a whole bundle (a new one each time)

A changed vector is a changed format: released ledgers could not be read any more. The inputs are literal values, not
records, so that a new field in a record changes nothing here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import (
    Checkpoint,
    Draft,
    ProofFile,
    TrustFile,
    VerifierKey,
    canonical_json,
    leaf_hash,
    merkle_root,
    pae,
    sign_note,
)
from cognify_dagster.ledger.entry import NO_PREVIOUS, assemble, body_signing_input, seal_body
from cognify_dagster.ledger.merkle import consistency_proof, inclusion_proof
from cognify_dagster.ledger.note import COSIGNATURE
from tests.ledger import bundle_factory

HERE = Path(__file__).parent
ORIGIN = "bank.example/golden/models"
START_US = 1_760_000_000_000_000
SECRETS = {name: hashlib.sha256(f"cognify golden {name}".encode()).digest() for name in ("log", "ada", "pipeline", "witness")}
STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

CANONICAL = [  # JSON text, its canonical form; None where there is none
    ("{}", "{}"),
    ('{ "b" : 1 , "a" : [ true , null , false ] }', '{"a":[true,null,false],"b":1}'),
    ('{"\\u20ac":1,"\\r":2,"1":3,"\\ud83d\\ude00":4,"\\u0080":5,"\\u00f6":6,"\\ufb33":7}',
     '{"\\r":2,"1":3,"\u0080":5,"ö":6,"€":1,"😀":4,"\ufb33":7}'),
    ('"\\u000f\\u000a\\u0041\\"\\\\\\/\\u2028\\u007f"', '"\\u000f\\nA\\"\\\\/\u2028\u007f"'),
    ("[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001]",
     "[333333333.3333333,1e+30,4.5,0.002,1e-27]"),
    ("[-0.0,1.0,1e21,1e20,1e-6,1e-7,5e-324,9007199254740994.0]",
     "[0,1,1e+21,100000000000000000000,0.000001,1e-7,5e-324,9007199254740994]"),
    ("[9007199254740991,-9007199254740991]", "[9007199254740991,-9007199254740991]"),
    ("[9007199254740992]", None),
    ("[NaN]", None),
    ("[1e400]", None),
    ('["\\ud800"]', None),
    ('{"a":1,"a":2}', None),
]  # fmt: skip


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(SECRETS[name])


def public(name: str) -> bytes:
    return key(name).public_key().public_bytes_raw()


def key_id(name: str) -> str:
    return hashlib.sha256(public(name)).hexdigest()[:16]


def inputs() -> list[dict[str, Any]]:
    """Five entries: a genesis-like one, two about one model, one unsigned, one with text that needs care."""
    person = {"person": "person/ada", "name": "Ada", "keys": [{"key_id": key_id("ada"), "algorithm": "ed25519"}]}
    return [
        {"kind": "genesis", "subjects": ["ledger", "policy", "person/ada"], "actor": "person/ada", "signed": True,
         "evidence": [], "facts": {"origin": ORIGIN, "trial": True, "founders": [person]}},
        {"kind": "dataset_snapshot", "subjects": ["dataset/loans"], "actor": "workload/pipeline", "signed": True,
         "evidence": ["sha256:" + "22" * 32, "sha256:" + "11" * 32], "facts": {"name": "loans", "root": "ab" * 32}},
        {"kind": "training_run", "subjects": ["model/credit", "model/credit@1", "dataset/loans"], "actor": "workload/pipeline",
         "signed": True, "evidence": [], "facts": {"auc": 0.7731, "loss": 1e-7, "steps": 1e20, "note": "Zürich — naïve 😀"}},
        {"kind": "finding", "subjects": ["findings", "model/credit"], "actor": "system", "signed": False, "evidence": [],
         "facts": {"text": "a line\nand a \"quote\""}},
        {"kind": "sign_off", "subjects": ["model/credit", "model/credit@1", "person/ada"], "actor": "person/ada", "signed": True,
         "evidence": [], "facts": {"decision": "approve"}},
    ]  # fmt: skip


def chain() -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    leaves: list[bytes] = []
    newest: dict[str, int] = {}
    for seq, item in enumerate(inputs()):
        payload = canonical_json({"facts": item["facts"], "observed": {}})
        salt = hashlib.sha256(b"golden salt %d" % seq).digest()
        signed = item["signed"]
        draft = Draft(
            kind=item["kind"],
            schema=1,
            subjects=tuple(item["subjects"]),
            actor=item["actor"],
            idem=hashlib.sha256(b"golden key %d" % seq).hexdigest(),
            payload=payload,
            facts_digest=hashlib.sha256(canonical_json(item["facts"])).hexdigest(),
            evidence=tuple(item["evidence"]),
            key_id=key_id("pipeline") if signed else "",
            sign=key("pipeline").sign if signed else None,
        )
        sealed = seal_body(ORIGIN, draft, salt=salt)
        heads = {subject: newest.get(subject, -1) for subject in sorted(item["subjects"])}
        prev = leaves[-1].hex() if leaves else NO_PREVIOUS
        data = assemble(ORIGIN, sealed.body, heads, prev, seq, START_US + seq * 1_000_001)
        leaves.append(leaf_hash(data))
        newest.update(dict.fromkeys(item["subjects"], seq))
        body = json.loads(sealed.body)
        entries.append(
            {
                **{"input": item, "idem": draft.idem, "salt": salt.hex(), "payload": payload.decode()},
                **{"commitment": body["payload"], "signing_input": body_signing_input(ORIGIN, body).decode()},
                **{"heads": heads, "prev": prev, "seq": seq, "time_us": START_US + seq * 1_000_001},
                **{"entry": data.decode(), "leaf": leaves[-1].hex()},
            }
        )
    return {
        "origin": ORIGIN,
        "writer": {"secret": SECRETS["pipeline"].hex(), "public": public("pipeline").hex(), "key_id": key_id("pipeline")},
        "entries": entries,
        "roots": [merkle_root(leaves[:size]).hex() for size in range(6)],
        "inclusion": {str(i): [h.hex() for h in inclusion_proof(i, 5, _reader(leaves))] for i in range(5)},
        "consistency_to_5": {str(n): [h.hex() for h in consistency_proof(n, 5, _reader(leaves))] for n in range(1, 6)},
    }


def _reader(leaves: list[bytes]) -> Any:
    return lambda level, index: merkle_root(leaves[index << level : (index + 1) << level])


def texts(vectors: dict[str, Any]) -> dict[str, str]:
    leaves = [bytes.fromhex(item["leaf"]) for item in vectors["entries"]]
    log = VerifierKey(ORIGIN, public("log"))
    note = sign_note(Checkpoint(ORIGIN, 5, merkle_root(leaves)).text(), ORIGIN, key("log"))
    witness = VerifierKey("witness.example/w", public("witness"), COSIGNATURE)
    text, time_s = note[: note.rindex("\n\n") + 1], 1_760_000_100
    signature = key("witness").sign(f"cosignature/v1\ntime {time_s}\n{text}".encode())
    line = base64.b64encode(witness.key_id + time_s.to_bytes(8, "big") + signature).decode()
    plain = TrustFile((log,), leaves[0])
    witnessed = TrustFile((log,), leaves[0], (("audit", witness),), (("any", 1, ("audit",)),), "any")
    return {
        "checkpoint.txt": note,
        "checkpoint-cosigned.txt": f"{note}— witness.example/w {line}\n",
        "entry-00000002.tlog-proof": ProofFile(2, tuple(inclusion_proof(2, 5, _reader(leaves))), note).text(),
        "trust.txt": plain.text(),
        "trust-witnessed.txt": witnessed.text(),
    }


def _signed(statement: dict[str, Any]) -> dict[str, Any]:
    data = canonical_json(statement)
    signature = base64.b64encode(key("ada").sign(pae(PAYLOAD_TYPE, data))).decode()
    return {
        "key": {"secret": SECRETS["ada"].hex(), "public": public("ada").hex(), "key_id": key_id("ada")},
        "statement": data.decode(),
        "statement_digest": hashlib.sha256(data).hexdigest(),
        "pae": pae(PAYLOAD_TYPE, data).decode(),
        "signature": signature,
        "envelope": {
            "payload": base64.b64encode(data).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": key_id("ada"), "sig": signature}],
        },
    }


def sign_off() -> dict[str, Any]:
    package, model = "11" * 32, "22" * 32
    return _signed(
        {
            "_type": STATEMENT,
            "subject": [
                {"name": "model/credit@1/package", "digest": {"sha256": package}},
                {"name": "model/credit@1/model-file", "digest": {"sha256": model}},
            ],
            "predicateType": "urn:cognify:predicate:sign-off:v1",
            "predicate": {
                "ledger": ORIGIN,
                "model": "credit",
                "version": "1",
                "package": {"digest": f"sha256:{package}", "entry_seq": 4, "entry_leaf": "33" * 32},
                "model_digest": f"sha256:{model}",
                "decision": "approve_with_conditions",
                "stage": "validation",
                "role": "model_validator",
                "meaning": "I validated this model version independently of its developers.",
                "comments": "Zürich portfolio: watch drift.\nOtherwise fine.",
                "conditions": [{"text": "Monitor weekly", "due": "2025-12-31T00:00:00Z"}, {"text": "Retrain", "due": None}],
                "links": ["https://bank.example/tickets/1"],
                "target_environments": ["production"],
                "expires": None,
                "viewed": {"digest": "sha256:" + "44" * 32, "media_type": "application/pdf"},
                "checkpoint": {"size": 4, "root": "55" * 32},
                "policy_digest": "sha256:" + "66" * 32,
                "person": "person/ada",
                "printed_name": "Ada Müller",
                "key_id": key_id("ada"),
                "signed_at": "2025-10-09T08:53:20Z",
                "reference": {"entry_seq": 3, "entry_leaf": "77" * 32},
            },
        }
    )


def act() -> dict[str, Any]:
    facts = {"holder": "person/bo", "key_id": "0011223344556677", "reason": "lost laptop", "revoked_by": "person/ada"}
    content = hashlib.sha256(canonical_json(facts)).hexdigest()
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": "key_revoked", "digest": {"sha256": content}}],
        "predicateType": "urn:cognify:predicate:act:v1",
        "predicate": {
            "ledger": ORIGIN,
            "kind": "key_revoked",
            "meaning": "The key 0011223344556677 must not be trusted any more.",
            "person": "person/ada",
            "key_id": key_id("ada"),
            "role": "workspace_admin",
            "checkpoint": {"size": 0, "root": hashlib.sha256(b"").hexdigest()},
            "signed_at": "2025-10-09T08:53:20Z",
        },
    }
    return {"kind": "key_revoked", "facts_without_envelope": facts, "content_digest": content, **_signed(statement)}


def vectors() -> dict[str, str]:
    """Return every vector file as path below tests/golden -> text."""
    made = chain()
    canonical = [{"json": text, "canonical": form} for text, form in CANONICAL]
    data = {"ledger/canonical.json": canonical, "ledger/chain.json": made, "statement/sign-off.json": sign_off(), "statement/act.json": act()}
    files = {name: json.dumps(value, indent=1, sort_keys=True) + "\n" for name, value in data.items()}
    return {**files, **{f"ledger/{name}": text for name, text in texts(made).items()}}


def freeze_bundle() -> None:
    """Freeze a whole bundle that every later verifier must accept."""
    with tempfile.TemporaryDirectory() as folder:
        world = bundle_factory.tell(Path(folder) / "world")
        out = bundle_factory.export(world, Path(folder) / "bundle")
        bundle_factory.zipped(out, HERE / "ledger" / "bundle-v1.zip", "credit_default-1/")
        (HERE / "ledger" / "bundle-v1.trust.txt").write_text(world.trust(), encoding="utf-8")


if __name__ == "__main__":
    for path, content in vectors().items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_bytes(content.encode())
    if "--bundle" in sys.argv:
        freeze_bundle()
