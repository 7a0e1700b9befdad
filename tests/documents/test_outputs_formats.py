"""The outputs that other tools read: CycloneDX, Croissant and SLSA, each judged by the tool of its own standard."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import in_toto_attestation.predicates.provenance.v1.provenance_pb2 as provenance_pb
import in_toto_attestation.v1.statement_pb2 as statement_pb
import mlcroissant
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement

from cognify_dagster.datasets import Provenance, file_manifest_bytes, take_snapshot
from cognify_dagster.datasets.recording import record_snapshot
from cognify_dagster.datasets.tree import ContentAlgorithm, FileKind, FileLeaf
from cognify_dagster.documents import DocumentError, collect, load_framework
from cognify_dagster.documents.outputs.bom import cyclonedx_bom
from cognify_dagster.documents.outputs.croissant import croissant
from cognify_dagster.documents.outputs.making import json_text, make_bom, make_croissant, make_slsa
from cognify_dagster.documents.outputs.provenance import find_snapshot
from cognify_dagster.documents.outputs.slsa import DATASET_DIGEST, slsa_statement
from cognify_dagster.governance import directory
from cognify_dagster.ledger import canonical_json, pae
from cognify_dagster.records import EnvironmentRef
from tests.documents.story import Story

PACKAGES = [("scikit-learn", "1.8.0", "5" * 64), ("odd_name", "1.0+local.1", "")]
SPECS = {"1.6": SchemaVersion.V1_6, "1.7": SchemaVersion.V1_7}


def valid(bom: dict[str, Any], spec: str = "1.6") -> None:
    problem = JsonStrictValidator(SPECS[spec]).validate_str(json.dumps(bom))
    assert problem is None, problem


def refs_of(value: Any) -> list[str]:
    """Every bom-ref that is defined."""
    if isinstance(value, dict):
        own = [value["bom-ref"]] if isinstance(value.get("bom-ref"), str) else []
        return own + [ref for item in value.values() for ref in refs_of(item)]
    return [ref for item in value for ref in refs_of(item)] if isinstance(value, list) else []


# --- CycloneDX --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["1.6", "1.7"])
def test_the_bom_is_valid_and_the_same_for_the_same_package(two_versions: Story, spec: Any) -> None:
    bom = cyclonedx_bom(two_versions.content, PACKAGES, spec=spec)
    valid(bom, spec)
    assert json_text(bom) == json_text(
        cyclonedx_bom(json.loads(json.dumps(two_versions.content)), PACKAGES[::-1], spec=spec)
    )
    other = cyclonedx_bom({**two_versions.content, "revision": 2}, PACKAGES, spec=spec)
    assert other["serialNumber"] != bom["serialNumber"]


def test_the_bom_names_model_data_and_packages(two_versions: Story) -> None:
    bom = cyclonedx_bom(two_versions.content, PACKAGES)
    model = bom["metadata"]["component"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"weights of 2").hexdigest()}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0] == {
        "type": "auc",
        "value": "0.7841",
        "confidenceInterval": {"lowerBound": "0.7711", "upperBound": "0.7961"},
    }
    assert {"SEX=female", "AGE_BAND=31-45"} <= {m.get("slice") for m in metrics}
    assert "AGE_BAND=61+" not in {m.get("slice") for m in metrics}, "a group too small to measure has no number"
    data = [item for item in bom["components"] if item["type"] == "data"]
    assert [item["name"] for item in data] == ["loans_train", "loans_holdout"]
    assert all("hashes" not in item for item in data), "a Merkle root is no SHA-256 of a file"
    assert [item["purl"] for item in bom["components"] if item["type"] == "library"] == [
        "pkg:pypi/odd-name@1.0%2Blocal.1",
        "pkg:pypi/scikit-learn@1.8.0",
    ]


def test_the_files_of_a_package_have_a_digest_where_the_training_recorded_one(two_versions: Story) -> None:
    bom = cyclonedx_bom(two_versions.content, PACKAGES)
    found = {item["name"]: item for item in bom["components"] if item["type"] == "library"}
    assert found["scikit-learn"]["properties"] == [{"name": "cognify:package:files-sha256", "value": "5" * 64}]
    assert "properties" not in found["odd_name"]
    assert all("hashes" not in item for item in found.values()), "a digest of a list is no SHA-256 of a file"
    notes = {item["name"]: item["value"] for item in bom["metadata"]["properties"]}
    assert notes["cognify:packages"].endswith("the files were not read again; 1 without such a list")
    none = cyclonedx_bom(two_versions.content, [("numpy", "2.3.0", "")])
    notes = {item["name"]: item["value"] for item in none["metadata"]["properties"]}
    assert notes["cognify:packages"].endswith("digests of their files were not recorded")


def test_coverage_is_claims_with_entries_and_open_points_never_a_score(two_versions: Story) -> None:
    package = two_versions.content
    bom = cyclonedx_bom(package, PACKAGES)
    refs = refs_of(bom)
    assert len(refs) == len(set(refs)), "each reference is defined once"
    declared = bom["declarations"]
    claims = {claim["bom-ref"]: claim for claim in declared["claims"]}
    leaves = {
        f"entry:{ref['seq']}": ref["leaf"]
        for report in package["coverage"]
        for line in report["lines"]
        for ref in line["entries"]
    }
    shown = {item["bom-ref"]: item["data"][0]["contents"]["attachment"]["content"] for item in declared["evidence"]}
    assert shown == leaves
    told = {item["bom-ref"]: item["description"] for item in declared["evidence"]}
    data = next(item for item in package["data"] if f"entry:{item['entry']['seq']}" in told)
    assert told[f"entry:{data['entry']['seq']}"].endswith(f"snapshot of data set {data['name']}")
    assert all(": " in text for text in told.values()), "each entry is said in words"
    for claim in claims.values():
        assert set(claim.get("evidence", [])) <= set(shown)
        assert claim["target"] in refs
    for attested, report in zip(declared["attestations"], package["coverage"], strict=True):
        assert len(attested["map"]) == len(report["lines"])
        for row, line in zip(attested["map"], report["lines"], strict=True):
            assert row["requirement"] in refs
            assert bool(row.get("claims")) == bool(line["entries"] and line["status"] != "not_applicable")
            assert set(row.get("claims", [])) | set(row.get("counterClaims", [])) <= set(claims)
            if line["status"] == "missing":
                assert row["counterClaims"], line["id"]
    assert "conformance" not in json.dumps(bom)
    assert 'confidence"' not in json.dumps(bom)


def test_a_bom_without_packages_or_evaluation_says_so_and_is_valid(two_versions: Story) -> None:
    bent = json.loads(json.dumps(two_versions.content))
    bent |= {
        "evaluation": None,
        "training": None,
        "coverage": [],
        "data": [{"name": "lost", "root": "a" * 64, "roles": ["train"], "entry": None, "recorded": False}],
    }
    bom = cyclonedx_bom(bent, None, problem="it was erased")
    valid(bom)
    notes = {item["name"]: item["value"] for item in bom["metadata"]["properties"]}
    assert notes["cognify:packages"] == "not listed: it was erased"
    assert not [item for item in bom["components"] if item["type"] == "library"]


def test_a_base_model_is_a_component_with_its_licence(two_versions: Story) -> None:
    bent = json.loads(json.dumps(two_versions.content))
    bent["training"]["base_model"] = {
        "name": "org/base",
        "revision": "main",
        "sha256": "f" * 64,
        "licence": "apache-2.0",
    }
    bom = cyclonedx_bom(bent, [])
    valid(bom)
    base = next(item for item in bom["components"] if item["bom-ref"] == "base-model")
    assert (base["version"], base["hashes"][0]["content"], base["licenses"]) == (
        "main",
        "f" * 64,
        [{"license": {"name": "apache-2.0"}}],
    )


def test_packages_are_those_of_the_environment_that_the_run_named(story: Story, now: Any) -> None:
    story.register()
    story.gates()
    story.data()
    digest = "7" * 64
    listed = [
        {"name": "numpy", "version": "2.3.0", "files_sha256": digest},
        {"name": "scikit-learn", "version": "1.8.0"},
    ]
    lines = "".join(sorted(f"{item['name']}=={item['version']}\n" for item in listed))
    detail = story.ws.put("environment.json", json.dumps({"packages": listed}).encode(), "application/json")
    where = {"python": "3.12.11", "platform": "Linux", "gpu": "none", "container_image": "", "detail": detail}
    story.train("1", environment=EnvironmentRef(packages_digest=hashlib.sha256(lines.encode()).hexdigest(), **where))
    story.evaluate()
    story.package([load_framework("sr26-2")], now)
    bom = make_bom(story.ws, story.ws.read(), story.model, "1")
    valid(bom)
    libraries = [item for item in bom["components"] if item["type"] == "library"]
    assert [item["name"] for item in libraries] == ["numpy", "scikit-learn"]
    assert [item.get("properties", [{}])[0].get("value") for item in libraries] == [digest, None]
    story.data("c")
    story.train("2", environment=EnvironmentRef(packages_digest="0" * 64, **where))
    story.evaluate()
    story.package([load_framework("sr26-2")], now)
    other = make_bom(story.ws, story.ws.read(), story.model, "2")
    notes = {item["name"]: item["value"] for item in other["metadata"]["properties"]}
    assert "not the one that the training run names" in notes["cognify:packages"]
    with pytest.raises(DocumentError, match="has no version '3'; there are 1, 2"):
        make_bom(story.ws, story.ws.read(), story.model, "3")


# --- Croissant --------------------------------------------------------------------------------------------------------


def load(found: dict[str, Any], folder: Path) -> Any:
    path = folder / "croissant.json"
    path.write_text(json_text(found), encoding="utf-8")
    return mlcroissant.Dataset(jsonld=str(path))


def taken(story: Story, folder: Path, **stated: Any) -> Any:
    """A real snapshot of a real file, recorded."""
    folder.mkdir(exist_ok=True)
    table = pa.table({"ID": [1, 2, 3], "rate": [0.5, None, 1.5], "name": ["a", "b", "ü|x"], "DEFAULT": [0, 1, 0]})
    pq.write_table(table, folder / "loans.parquet")
    told = {
        "source": "A bank's books", "owner": "Credit risk", "attribution": "The bank", "licence": "CC BY 4.0", "collected_from": "2005-04-01", "collected_to": "2005-09-30",
        "collected_how": "Exported from the books", "column_purposes": {"rate": "price of the loan"}, **stated,
    }  # fmt: skip
    secret = b"k" * 32 if stated.get("contains_personal_data") else None
    snapshot = take_snapshot(
        str(folder / "loans.parquet"),
        name="loans",
        provenance=Provenance(**told),
        record_key="ID",
        label="DEFAULT",
        record_hmac_key=secret,
    )
    return record_snapshot(story.ws, snapshot, run="r", record_key="ID", label="DEFAULT")


def test_a_snapshot_loads_as_croissant_without_errors_and_gives_its_records(story: Story, tmp_path: Path) -> None:
    story.register()
    item = taken(story, tmp_path / "data")
    found = make_croissant(story.ws, story.ws.read(), item)
    assert (
        found["distribution"][0]["sha256"]
        == hashlib.sha256((tmp_path / "data" / "loans.parquet").read_bytes()).hexdigest()
    )
    data = load(found, tmp_path / "data")
    assert not data.metadata.ctx.issues.errors
    assert not data.metadata.ctx.issues.warnings
    assert data.metadata.name == "loans"
    rows = list(data.records("records"))
    assert [row["records/ID"] for row in rows] == [1, 2, 3]
    assert rows[2]["records/name"] in ("ü|x", "ü|x".encode())
    types = {field["name"]: field["dataType"] for field in found["recordSet"][0]["field"]}
    assert types == {"DEFAULT": "sc:Integer", "ID": "sc:Integer", "name": "sc:Text", "rate": "sc:Float"}
    assert found["recordSet"][0]["key"] == {"@id": "records/ID"}


def test_what_the_owner_stated_becomes_responsible_ai_terms(story: Story, tmp_path: Path) -> None:
    story.register()
    item = taken(story, tmp_path / "data", contains_personal_data=True, consent="Contract")
    found = make_croissant(story.ws, story.ws.read(), item)
    data = load(found, tmp_path / "data")
    assert data.metadata.data_collection == "Exported from the books"
    assert [str(day)[:10] for day in data.metadata.data_collection_timeframe] == ["2005-04-01", "2005-09-30"]
    assert data.metadata.data_collection_missing_data == "Empty values by column: rate: 1."
    assert data.metadata.personal_sensitive_information == [
        "The owner declares personal data.",
        "Legal ground or consent: Contract.",
    ]


def test_what_was_not_stated_is_left_out_and_named(story: Story, tmp_path: Path) -> None:
    story.register()
    item = taken(story, tmp_path / "data", owner="", licence="", collected_how=None)
    found = make_croissant(story.ws, story.ws.read(), item)
    assert not {"license", "creator", "url", "rai:dataCollection"} & set(found)
    assert "Not stated by the owner: licence, owner, source_url." in found["description"]
    assert not load(found, tmp_path / "data").metadata.ctx.issues.errors


def test_each_state_of_a_data_set_has_a_version_of_its_own(two_versions: Story) -> None:
    reading = two_versions.ws.read()
    for number, root in enumerate(("a" * 64, "c" * 64), 1):
        found = croissant(find_snapshot(reading, "loans_train", root), [], {}, number=number)
        assert found["version"] == f"{number}.0.0"
        assert root in found["description"]


def test_files_without_a_plain_hash_and_very_many_files_are_sets(two_versions: Story, tmp_path: Path) -> None:
    item = find_snapshot(two_versions.ws.read(), "loans_train")

    def leaf(path: str, kind: ContentAlgorithm = ContentAlgorithm.SHA256) -> FileLeaf:
        return FileLeaf(path.encode(), FileKind.FILE, 10, kind, hashlib.sha256(path.encode()).digest())

    files = [leaf("a.csv"), leaf('sub dir/b"ü.csv'), leaf("big.bin", ContentAlgorithm.SHA256_CHUNKED_8MIB)]
    found = croissant(item, files, {"columns": {"x": {"type": "int64"}, "a b": {"type": "string"}}}, number=1)
    kinds = {one["@id"]: one["@type"] for one in found["distribution"]}
    assert kinds == {"a.csv": "cr:FileObject", "file-2": "cr:FileObject", "big.bin": "cr:FileSet"}
    assert "sha256" not in found["distribution"][2]
    assert not load(found, tmp_path).metadata.ctx.issues.errors
    many = croissant(item, [leaf(f"{n}.csv") for n in range(2_001)] + [leaf("README")], {}, number=1)
    assert [one["includes"] for one in many["distribution"]] == ["**/*", "**/*.csv"]
    assert not load(many, tmp_path).metadata.ctx.issues.errors
    assert file_manifest_bytes(files)


# --- SLSA -------------------------------------------------------------------------------------------------------------


def test_the_statement_reads_as_in_toto_and_slsa(two_versions: Story) -> None:
    known = collect(two_versions.ws.read(), two_versions.model, "2")
    statement = slsa_statement(known)
    parsed = json_format.Parse(json.dumps(statement), statement_pb.Statement())
    Statement.copy_from_pb(parsed).validate()
    predicate = json_format.Parse(json.dumps(statement["predicate"]), provenance_pb.Provenance())
    depends = {one.name: dict(one.digest) for one in predicate.build_definition.resolved_dependencies}
    assert depends["dataset/loans_train"] == {DATASET_DIGEST: "c" * 64}
    assert depends["source code"] == {"gitCommit": "3f9c2d1b8a7e6f5d4c3b2a190817263544536271"}
    assert depends["environment"] == {"sha256": known.training.record.environment.detail.digest[7:]}
    assert predicate.run_details.builder.id == "urn:cognify:builder:example.org/credit:workload/pipeline"
    assert predicate.run_details.metadata.finished_on.seconds == known.training.time_us // 1_000_000
    assert statement["subject"][0]["digest"] == {"sha256": hashlib.sha256(b"weights of 2").hexdigest()}
    assert canonical_json(statement) == canonical_json(slsa_statement(known))


def test_a_version_without_training_has_no_provenance(two_versions: Story) -> None:
    with pytest.raises(DocumentError, match="has no version"):
        make_slsa(two_versions.ws, two_versions.ws.read(), two_versions.model, "3")


def test_a_signed_statement_verifies_with_the_key_that_the_ledger_enrolled(two_versions: Story) -> None:
    reading = two_versions.ws.read()
    envelope = make_slsa(two_versions.ws, reading, two_versions.model, "2", sign=True)
    (signature,) = envelope["signatures"]
    keys = {item.key.key_id: item.key.public for _, item in directory(reading).workloads}
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(keys[signature["keyid"]]))
    payload = base64.b64decode(envelope["payload"])
    public.verify(base64.b64decode(signature["sig"]), pae(envelope["payloadType"], payload))
    assert json.loads(payload) == make_slsa(two_versions.ws, reading, two_versions.model, "2")
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature["sig"]), pae("application/vnd.cognify.entry+json", payload))


# --- all of them ------------------------------------------------------------------------------------------------------


def test_two_processes_make_the_same_bytes(two_versions: Story) -> None:
    calls = [("card", "2"), ("bom", "2"), ("slsa", "2"), ("validation", "2", "--at", "2027-01-31")]
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom cognify_dagster.cli import main\n"
        f"for name, *rest in {calls!r}:\n"
        f"    sys.stdout.write(CliRunner().invoke(main, ['document', name, {two_versions.model!r}, *rest]).stdout)\n"
    )
    made = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "COGNIFY_WORKSPACE": str(two_versions.ws.config.path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
        made.append(done.stdout)
    assert made[0] == made[1]
    assert made[0].count(b"# ") > 20
