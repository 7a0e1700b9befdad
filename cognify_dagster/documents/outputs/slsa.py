"""Where a model file came from, as other tools read it: an in-toto Statement v1 with the SLSA provenance v1 of the training run.

Invariants: the subject is the sealed model file by its SHA-256, or each file of a model that is a folder; a data set is named by its Merkle root under an algorithm name of our
own, never as a SHA-256 of bytes; what was not recorded is left out. A signature, where there is one, is the workload's over the DSSE
pre-authentication encoding, so it can be mistaken for no entry and for no person's act.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.package.building import tools
from cognify_dagster.documents.package.parts import when
from cognify_dagster.ledger import canonical_json, pae
from cognify_dagster.records import EvidenceItem, TrainingRun
from cognify_dagster.workspace import Recorded

Json = dict[str, Any]
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUILD_TYPE = "urn:cognify:build:training-run:v1"
DATASET_DIGEST = "cognifyDatasetV1"
FILES_DIGEST = "cognifyFilesV1"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def slsa_statement(known: VersionFacts) -> Json:
    """Return the statement about a version's training run.

    Args:
        known: what the ledger says about the version.

    Raises:
        DocumentError: if the version has no sealed training run.
    """
    run = known.training
    if run is None:
        raise DocumentError(f"{known.model} {known.version} has no sealed training run; there is nothing to state")
    record, image = run.record, run.record.environment.container_image
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": item.name, "digest": _sha256(item.digest)} for item in (record.model_files or (record.model_file,))
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "model": known.model,
                    "version": known.version,
                    "config": dict(record.config),
                    "seed": record.seed,
                    "datasets": [{"name": ref.name, "role": ref.role, "entry": ref.seq} for ref in record.datasets],
                    **({"seeds": dict(sorted(record.seeds.items()))} if record.seeds else {}),
                    **({"rerun": record.rerun.model_dump(mode="json")} if record.rerun else {}),
                },
                "internalParameters": {
                    "python": record.environment.python,
                    "platform": record.environment.platform,
                    "gpu": record.environment.gpu,
                    "containerImage": image if image not in ("", "none", "absent", "undeclared") else None,
                    "packagesSha256": record.environment.packages_digest,
                    **({"lockFile": record.environment.lock_file} if record.environment.lock_file else {}),
                    **({"processes": record.distributed.world_size} if record.distributed else {}),
                    **({"trialLedger": True} if known.trial else {}),
                },
                "resolvedDependencies": _dependencies(record, known),
            },
            "runDetails": {
                "builder": {
                    "id": f"urn:cognify:builder:{known.origin}:{run.actor}",
                    "version": {"cognify_dagster": tools()["cognify_dagster"]},
                },
                "metadata": _metadata(known, run),
                "byproducts": _byproducts(record),
            },
        },
    }


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}


def _blob(item: EvidenceItem) -> Json:
    return {"name": item.name, "digest": _sha256(item.digest), "mediaType": item.media_type}


def _byproducts(record: TrainingRun) -> list[Json]:
    """What else the run left, by digest; a checkpoint by the root over its files, under a name of our own."""
    shards = record.distributed.manifest if record.distributed else None
    files = [record.metric_series, *record.artefacts, *([record.model_file] if record.model_files else []), shards]
    found = [_blob(item) for item in files if item is not None]
    for saved in record.checkpoints:
        found.append({"name": f"checkpoint {saved.name}", "digest": {FILES_DIGEST: saved.root}})
    return found


def _dependencies(record: TrainingRun, known: VersionFacts) -> list[Json]:
    found: list[Json] = []
    for ref in record.datasets:
        found.append(
            {
                "name": f"dataset/{ref.name}",
                "uri": f"urn:cognify:dataset:{known.origin}:{ref.name}",
                "digest": {DATASET_DIGEST: ref.root},
                "annotations": {"role": ref.role, "entry": ref.seq},
            }
        )
    for name, code in (("source code", record.code), ("feature pipeline", record.feature_code)):
        if code is None or not _COMMIT.fullmatch(code.commit):
            continue
        source: Json = {"name": name, "digest": {"gitCommit": code.commit}}
        if code.remote:
            source["uri"] = f"{code.vcs}+{code.remote}"
        source["annotations"] = {"dirty": code.dirty, **({"diff": code.diff_digest} if code.diff_digest else {})}
        found.append(source)
    found.append({**_blob(record.environment.detail), "name": "environment"})
    base = record.base_model
    if isinstance(base.get("name"), str):
        item: Json = {"name": f"base model {base['name']}"}
        digest = base.get("digest") or base.get("sha256")
        if isinstance(digest, str) and re.fullmatch(r"(sha256:)?[0-9a-f]{64}", digest):
            item["digest"] = _sha256(digest)
        item["annotations"] = {
            key: value for key, value in sorted(base.items()) if key not in ("name", "digest", "sha256")
        }
        found.append(item)
    return found


def _metadata(known: VersionFacts, run: Recorded[TrainingRun]) -> Json:
    """When it ran, as far as the ledger knows: begun at the latest when the version was opened, ended when it was sealed."""
    found: Json = {"finishedOn": when(run)}
    if known.opened is not None:
        found = {"invocationId": known.opened.record.run, "startedOn": when(known.opened), **found}
        if datetime.fromisoformat(found["startedOn"].replace("Z", "+00:00")) > run.when:  # opened by another run, later
            del found["startedOn"]
    return found


def sign_statement(statement: Json, key_id: str, sign: Callable[[bytes], bytes]) -> Json:
    """Return a DSSE envelope over a statement.

    Args:
        statement: what `slsa_statement` returned.
        key_id: the id of the signing key, as the ledger enrolled it.
        sign: bytes -> Ed25519 signature, as a workspace's `Writer.sign`.
    """
    payload = canonical_json(statement)
    signature = sign(pae(PAYLOAD_TYPE, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }


def statement_digest(statement: Json) -> str:
    """Return the SHA-256 (hex) of a statement's canonical bytes."""
    return hashlib.sha256(canonical_json(statement)).hexdigest()
