"""What training and evaluation record beyond their first schema: in the package, its print, and everything made from it.

Two rules run through: a version that recorded none of it has the package that it always had, and an experiment is evidence for nothing.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cognify_dagster.documents import (
    DocumentError,
    VersionFacts,
    assess_coverage,
    build_package,
    collect,
    export_bundle,
    load_framework,
    package_digest,
    package_schema,
    render_html,
    render_model_card,
)
from cognify_dagster.documents.outputs.bom import cyclonedx_bom
from cognify_dagster.documents.outputs.making import render
from cognify_dagster.documents.outputs.slsa import slsa_statement
from cognify_dagster.documents.outputs.validation import validation_report
from cognify_dagster.documents.package.comparison import compare_packages
from cognify_dagster.ledger import canonical_json, parse_canonical
from cognify_dagster.records import Compute, EnvironmentRef
from tests.documents.captured import COMMIT, FEATURES, FILES, experiment, sign_files, tell_captured, text_of
from tests.documents.conftest import NOW
from tests.documents.story import Story
from tests.documents.test_bundle import verify
from tests.documents.test_coverage import bend
from tests.documents.test_package import check, refs
from tests.documents.test_pdf import view_of

LATER_TRAINING = {
    "model_files", "checkpoints", "seeds", "feature_code", "compute", "compute_criterion", "distributed", "external", "rerun", "captured_by",
    "duration_s", "model_signatures",
}  # fmt: skip
LATER_EVALUATION = {
    "evaluator_code", "slices", "worst_site", "comparisons", "perturbations", "explanations", "benchmarks",
}  # fmt: skip


@pytest.fixture
def package(told: Story) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(told.content))
    return copied


def rebuilt(told: Story, facts: VersionFacts) -> dict[str, Any]:
    return build_package(facts, frameworks=[], now=NOW, revision=1, evidence=told.ws.evidence.get)


# The package


def test_a_version_with_everything_fits_the_schema_and_has_every_member(package: dict[str, Any]) -> None:
    check(package)
    assert set(package["training"]) >= LATER_TRAINING
    assert set(package["evaluation"]) >= LATER_EVALUATION
    assert package["experiments"]["count"] == 3


def test_a_version_that_recorded_none_of_it_has_the_package_that_it_always_had(two_versions: Story) -> None:
    package, schema = two_versions.content, package_schema()["$defs"]
    assert set(package["training"]) == set(schema["training"]["required"])
    assert set(package["evaluation"]) == set(schema["evaluation"]["required"])
    assert set(package["training"]["environment"]) == set(schema["training"]["properties"]["environment"]["required"])
    assert set(package) - set(package_schema()["required"]) == {"attestations", "retention"}


def test_members_are_copies_of_what_was_sealed(told: Story, package: dict[str, Any]) -> None:
    run, result = told.facts.training.record, told.facts.evaluation.record
    assert package["training"]["seeds"] == run.seeds
    assert [item["root"] for item in package["training"]["checkpoints"]] == [item.root for item in run.checkpoints]
    assert package["training"]["environment"]["lock_file"] == run.environment.lock_file
    assert package["training"]["feature_code"]["commit"] == FEATURES
    assert package["training"]["base_model"]["parent"] == ["letters_base", "4"]
    assert package["evaluation"]["worst_site"] == {
        "attribute": "site", "value": "Harbour clinic", "metric": "auc", "result": 0.872,
    }  # fmt: skip
    assert [item["after"] for item in package["evaluation"]["perturbations"]] == [p.after for p in result.perturbations]


@pytest.mark.parametrize("flops", [1.86e14, 2.1e17, 3.3e22, 210_000_000_000_000_000])
def test_figures_of_any_size_leave_a_package_that_every_reader_can_digest(told: Story, flops: float) -> None:
    facts = bend(told.facts, "training", compute=Compute(flops=flops, flops_method="6*P*D"))
    data = canonical_json(rebuilt(told, facts))
    plain = json.loads(data)
    assert package_digest(plain) == package_digest(parse_canonical(data))
    assert float(plain["training"]["compute"]["flops"]) == pytest.approx(flops)
    check(plain)


def test_every_piece_of_evidence_of_run_and_evaluation_is_in_the_register(told: Story, package: dict[str, Any]) -> None:
    run, result = told.facts.training, told.facts.evaluation
    registered = {(item["seq"], item["sha256"]) for item in package["evidence"]}
    for entry in (run, result):
        assert {(entry.seq, digest[7:]) for digest in entry.record.evidence()} <= registered
    shown = {item["shows"] for item in package["evidence"]}
    assert {"List of the model's files", "Model file model.safetensors", "Files of 3 checkpoints"} <= shown
    assert "Explanation of decisions, by linear contributions" in shown
    assert sum(item["shows"] == "Result file of benchmarks" for item in package["evidence"]) == 1, "one file, two tasks"


def test_lineage_leads_to_the_governed_run_of_the_base_model_and_to_the_feature_pipeline(
    package: dict[str, Any],
) -> None:
    edges = {(e["from"], e["relation"], e["to"]) for e in package["lineage"]["edges"]}
    assert ("parent", "is governed here as", "base") in edges
    assert ("features", "made the features of", "training") in edges
    nodes = {n["id"]: n for n in package["lineage"]["nodes"]}
    assert (nodes["parent"]["label"], nodes["base"]["digest"]) == ("letters_base@4", "5" * 64)


def test_only_a_signature_over_exactly_these_files_is_shown(told: Story, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    story = tell_captured(tmp_path / "project", NOW)
    sign_files(story, training_seq=story.training_seq - 1)
    sign_files(story, model_digest="sha256:" + "0" * 64)
    again = rebuilt(story, collect(story.ws.read(), story.model, "2"))
    assert len(again["training"]["model_signatures"]) == 1
    assert again["training"]["model_signatures"] == rebuilt(story, collect(story.ws.read(), story.model, "2"))["training"]["model_signatures"]  # fmt: skip


def test_metrics_of_benchmarks_are_mapped_and_those_without_an_objective_are_listed(package: dict[str, Any]) -> None:
    mapped = {item["metric"]: item["objective_id"] for item in package["objectives"]["metrics"]}
    assert mapped["hellaswag.acc_norm"] == "hellaswag"
    assert [item["metric"] for item in package["objectives"]["unmapped"]] == ["house_style.exact_match"]
    assert "No objective is stated for: house_style.exact_match" in view_of(package)


# Experiments


def test_an_experiment_is_evidence_for_nothing(told: Story, package: dict[str, Any]) -> None:
    facts = told.facts
    assert len(facts.experiments) == 3
    seqs, leaves = {item.seq for item in facts.experiments}, {item.leaf for item in facts.experiments}
    assert not seqs & set(facts.entries())
    assert not seqs & {seq for seq, _ in refs(package)}
    assert not any(leaf in text_of(package) for leaf in leaves)
    assert not {item["seq"] for item in package["evidence"]} & seqs
    for name in ("sr26-2", "eu-gpai-art53", "nist-ai-rmf"):
        report = assess_coverage(facts, load_framework(name), NOW)
        assert not seqs & {ref.seq for line in report.lines for ref in line.entries}


def test_experiments_are_counted_by_how_they_ended_and_said_to_be_no_evidence(package: dict[str, Any]) -> None:
    found = package["experiments"]
    assert (found["completed"], found["failed"], found["killed"]) == (2, 1, 0)
    for text in (view_of(package), render_html(package), render_model_card(package)):
        assert "3 experiments" in text
        assert "no evidence" in text or "none of them is evidence" in text


def test_an_experiment_alone_makes_no_version(story: Story) -> None:
    story.register()
    experiment(story)
    with pytest.raises(DocumentError):
        collect(story.ws.read(), story.model, "1")


def test_a_version_with_experiments_only_has_no_training(story: Story) -> None:
    from cognify_dagster.records import VersionOpened

    story.register()
    story.put(VersionOpened(model=story.model, version="1", run="r", opened_by="person/ben"))
    experiment(story)
    facts = collect(story.ws.read(), story.model, "1")
    assert facts.training is None
    package = build_package(facts, frameworks=[], now=NOW, revision=1, evidence=story.ws.evidence.get)
    assert package["training"] is None
    assert package["experiments"]["count"] == 1
    assert "No sealed training run" in [item["title"] for item in package["findings"]]


# Print


SHOWN = [
    "through the Python SDK", COMMIT, FEATURES, "another commit than the training's", "registry.example.org/train@sha256:" + "9" * 64,
    "requirements.txt ", "2" * 64, "uv.lock ", "8" * 64, "20261118 (by library: data 7, numpy 20261118", "BertForSequenceClassification; transformers 5.23.0",
    "model.safetensors", "sentence-transformers/all-MiniLM-L6-v2", "5" * 64, "apache-2.0", "governed here: letters_base, version 4",
    "1.86e+14 FLOP (6*P*D)", "Energy", "not measured", "6 min 52 s", "Below the line", "checkpoint-300", "fsdp2, gloo", "4" * 64,
    "MLflow", "0d1c5a77e2f94b0f8f3f5d1d9c0ad111", "python train.py --seed 20261118", "eval/loss by 0.0020", "ecdsa-p256-sha256",
    "Worst site by AUC: ", "Harbour clinic, 0.8720", "Old town", "insufficient data", "Compared with credit_default@1", "● better",
    "not judged, no interval", "typos, 0.05 share of letters", "could not score", "missing values take the median", "lm-eval 0.4.13",
    "nothing stated: unmapped", "100 of 500", "PAY_0 0.0821", "cognify evaluation explain", "Code that measured", "9" * 40,
]  # fmt: skip


@pytest.mark.parametrize("words", SHOWN)
def test_the_print_shows_it(told: Story, words: str) -> None:
    if not hasattr(told, "view"):
        told.view = view_of(json.loads(json.dumps(told.content)))
    assert words in told.view


def test_the_page_for_reading_shows_the_same_and_draws_the_sites(package: dict[str, Any]) -> None:
    page = render_html(package)
    for words in ("Harbour clinic", "governed here: letters_base, version 4", "AUC by site", "checkpoint-300"):
        assert words in page
    assert "<code>python train.py --seed 20261118</code>" in page


def test_what_was_not_measured_or_found_is_said_and_never_blank(told: Story) -> None:
    environment = EnvironmentRef(
        python="3.12.11", platform="Linux", packages_digest="6" * 64, gpu="none", container_image="none",
        detail=told.facts.training.record.environment.detail,
    )  # fmt: skip
    facts = bend(told.facts, "training", compute=None, environment=environment, feature_code=None)
    bare = rebuilt(told, facts)
    assert "lock file none found" in render_model_card(bare)
    assert "cognify:environment:lock-file" not in json.dumps(cyclonedx_bom(bare, []))
    text = view_of(bare)
    assert "Operations and energy were not measured" in text
    assert "GPU none" in text
    assert "none found beside the code" in text
    assert "none: no container, or its digest was not declared" in text
    assert "Feature pipeline" not in text


@pytest.mark.parametrize(
    ("by", "words"), [("spool", "kept the journal"), ("import", "imported from"), ("sdk", ""), ("dagster", "")]
)
def test_who_says_when_training_began(told: Story, by: str, words: str) -> None:
    package = rebuilt(told, bend(told.facts, "training", captured_by=by))
    check(package)
    found = [item for item in package["findings"] if item["title"].startswith("When training began")]
    assert [item["severity"] for item in found] == (["note"] if words else [])
    assert words in (found[0]["observed"] if found else "")
    assert ("When training began" in view_of(package)) == bool(words)


@pytest.mark.parametrize(("count", "severity"), [(3, "medium"), (1, "note")])
def test_a_model_file_older_than_its_run_is_a_finding(told: Story, count: int, severity: str) -> None:
    older = {
        "began": "2026-11-18T09:00:00Z", "changed": "2025-01-02T03:04:05Z", "count": count, "of": 3, "files": ["model.bin"],
    }  # fmt: skip
    package = rebuilt(told, bend(told.facts, "training", extra={"model_file_older_than_run": older}))
    check(package)
    (found,) = [item for item in package["findings"] if item["title"] == "Model file older than its run"]
    assert found["severity"] == severity
    assert f"{count} of 3 model files" in found["observed"]
    assert "2025-01-02T03:04:05Z" in view_of(package)


def test_a_claimed_start_does_not_move_limits_before_the_training(told: Story) -> None:
    opened = told.facts.opened
    assert opened is not None
    gate_set = replace(told.facts.gate_set, seq=opened.seq + 1)
    facts = replace(bend(told.facts, "training", started_after_seq=10**6), gate_set=gate_set)
    assert facts.started == opened.seq + 1
    package = rebuilt(told, facts)
    assert package["training"]["started_after_size"] == opened.seq + 1
    assert package["gates"]["set"]["before_training"] is False
    assert "Limits not adopted before training" in [item["title"] for item in package["findings"]]


def test_a_container_whose_image_nobody_declared_is_said_to_be_one(told: Story) -> None:
    environment = told.facts.training.record.environment.model_copy(update={"container_image": "undeclared"})
    bare = rebuilt(told, bend(told.facts, "training", environment=environment))
    assert "a container, but the digest of its image was not declared" in view_of(bare)
    assert "container image of undeclared digest" in render_model_card(bare)


@pytest.mark.parametrize("name", sorted(LATER_TRAINING - {"model_signatures", "duration_s", "compute_criterion"}))
def test_every_document_can_be_made_without_any_one_of_the_members(told: Story, name: str) -> None:
    empty = {"compute": None, "feature_code": None, "distributed": None, "rerun": None, "seeds": {}, "captured_by": ""}
    package = rebuilt(told, bend(told.facts, "training", **{name: empty.get(name, ())}))
    assert name not in package["training"]
    check(package)
    view_of(package)
    render_model_card(package)
    render(validation_report(told.ws.read(), package, now=NOW), "md")
    cyclonedx_bom(package, [])


@pytest.mark.parametrize("name", sorted(LATER_EVALUATION - {"worst_site"}))
def test_every_document_can_be_made_without_any_one_part_of_the_evaluation(told: Story, name: str) -> None:
    package = rebuilt(told, bend(told.facts, "evaluation", **{name: None if name == "evaluator_code" else ()}))
    assert name not in package["evaluation"]
    check(package)
    view_of(package)
    render_model_card(package)
    render(validation_report(told.ws.read(), package, now=NOW), "md")
    cyclonedx_bom(package, [])


def test_a_feature_pipeline_of_the_same_commit_is_said_to_be_the_same(told: Story) -> None:
    facts = bend(told.facts, "training", feature_code=told.facts.training.record.code)
    assert "the same commit as the training" in view_of(rebuilt(told, facts))


def test_without_a_direction_no_site_is_called_the_worst(told: Story) -> None:
    undirected = [
        item.model_copy(
            update={"metrics": tuple(m.model_copy(update={"higher_is_better": None}) for m in item.metrics)}
        )
        for item in told.facts.evaluation.record.slices
    ]
    package = rebuilt(told, bend(told.facts, "evaluation", slices=tuple(undirected)))
    assert "worst_site" not in package["evaluation"]
    assert "no site can be named as the worst" in view_of(package)
    assert "Worst site" not in render_model_card(package)


def test_a_site_metric_beyond_a_share_is_a_table_without_a_chart(told: Story) -> None:
    large = tuple(
        item.model_copy(update={"metrics": tuple(m.model_copy(update={"value": 12.5}) for m in item.metrics)})
        for item in told.facts.evaluation.record.slices
    )
    text = view_of(rebuilt(told, bend(told.facts, "evaluation", slices=large)))
    assert "sites.svg" not in text
    assert "12.5" in text


# Other documents


def test_the_model_card_names_base_model_files_and_data_for_the_hub(package: dict[str, Any]) -> None:
    card = render_model_card(package)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert header["base_model_relation"] == "finetune"
    assert header["library_name"] == "transformers"
    assert header["model-index"][0]["results"][0]["dataset"]["name"] == "loans_holdout"
    for name in FILES:
        assert name.replace("_", r"\_") in card
    for words in (
        "learning\\_rate: 2e-05", "trained under governance here as letters\\_base@4", "1.86e+14 FLOP", "| Energy | not measured |",
        "Worst site by AUC: **Harbour clinic**", "| hellaswag | 1.0 | 0 |", "### Sensitivity", "`python train.py --seed 20261118`",
        "Why this configuration | Best F1",
    ):  # fmt: skip
        assert words in card, words


def test_many_settings_are_a_table_of_the_card_and_a_number_in_the_validation_report(told: Story) -> None:
    many = {f"argument_{n:03d}": n for n in range(120)} | {"learning_rate": 2e-05, "nested": {"a": None}}
    package = rebuilt(told, bend(told.facts, "training", config=many))
    card = render_model_card(package)
    assert "| Settings | 122, listed below |" in card
    assert "| argument\\_119 | 119 |" in card
    assert "| nested.a | null |" in card
    assert "122 settings, listed in" in render(validation_report(told.ws.read(), package, now=NOW), "md")


def test_tiny_numbers_are_not_printed_as_zero(told: Story) -> None:
    facts = bend(told.facts, "training", metrics={"learning_rate": 2e-05, "zero": 0.0})
    text = view_of(rebuilt(told, facts))
    assert '["Learning rate", "2e-05"]' in text
    assert '["Zero", "0"]' in text


def test_a_relation_that_the_hub_does_not_know_stays_out_of_the_header(package: dict[str, Any]) -> None:
    package["training"]["architecture"]["details"]["relation"] = "inspired by"
    header = yaml.safe_load(render_model_card(package).split("---\n")[1])
    assert header["base_model"]
    assert "base_model_relation" not in header


@pytest.mark.parametrize("spec", ["1.6", "1.7"])
def test_the_bill_lists_each_file_of_a_folder_and_calls_no_list_or_root_a_file(
    package: dict[str, Any], spec: Any
) -> None:
    bom = cyclonedx_bom(package, [], spec=spec)
    version = {"1.6": SchemaVersion.V1_6, "1.7": SchemaVersion.V1_7}[spec]
    assert JsonStrictValidator(version).validate_str(json.dumps(bom)) is None
    model = bom["metadata"]["component"]
    assert "hashes" not in model
    found = {item["name"]: item["hashes"][0]["content"] for item in model["components"]}
    assert found == {item["name"]: item["digest"][7:] for item in package["training"]["model_files"]}
    properties = {item["name"]: item["value"] for item in model["properties"]}
    assert properties["cognify:model:file-list-sha256"] == package["training"]["model_file"]["digest"][7:]
    assert properties["cognify:training:shards-root"] == "4" * 64
    (base,) = [item for item in bom["components"] if item["bom-ref"] == "base-model"]
    assert {"name": "cognify:governed-as", "value": "letters_base@4"} in base["properties"]
    slices = {m.get("slice") for m in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert "site=Harbour clinic" in slices


def test_build_provenance_is_about_each_file_and_names_both_codes(told: Story) -> None:
    statement = slsa_statement(told.facts)
    run = told.facts.training.record
    assert {s["digest"]["sha256"] for s in statement["subject"]} == {item.digest[7:] for item in run.model_files}
    build = statement["predicate"]["buildDefinition"]
    commits = {
        d["name"]: d["digest"]["gitCommit"] for d in build["resolvedDependencies"] if "gitCommit" in d.get("digest", {})
    }
    assert commits == {"source code": COMMIT, "feature pipeline": FEATURES}
    assert build["externalParameters"]["rerun"]["command"][0] == "python"
    left = {item["name"]: item["digest"] for item in statement["predicate"]["runDetails"]["byproducts"]}
    assert left["checkpoint checkpoint-300"] == {"cognifyFilesV1": run.checkpoints[-1].root}


def test_the_validation_report_tells_what_was_tested_and_only_then_what_is_absent(
    told: Story, package: dict[str, Any]
) -> None:
    text = render(validation_report(told.ws.read(), package, now=NOW), "md")
    for words in ("### Sensitivity", "Worst site by AUC: Harbour clinic", "### Compared with", "### Public benchmarks"):
        assert words in text
    assert "Not in the evaluation" not in text
    del package["evaluation"]["perturbations"]
    text = render(validation_report(told.ws.read(), package, now=NOW), "md")
    assert "Not in the evaluation: sensitivity and stress tests." in text


def test_a_bundle_of_a_folder_model_verifies_and_holds_its_files_but_no_experiment(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    story = tell_captured(tmp_path / "project", NOW)
    shutil.copy(tmp_path / "project" / "trust.txt", tmp_path / "trust.txt")
    out = tmp_path / "out"
    export_bundle(story.ws, story.model, "2", out, exported_by="person/ada")
    code, report = verify(out, tmp_path / "trust.txt")
    assert code == 0, report
    facts = collect(story.ws.read(), story.model, "2")
    for item in facts.training.record.model_files:
        assert (out / "evidence" / item.digest[7:]).read_bytes() == FILES[item.name]
    for item in facts.experiments:
        assert not list(out.rglob(f"{item.seq:08d}.*"))


# Comparison and changes


def drop(package: dict[str, Any], path: str) -> None:
    part, _, name = path.partition(".")
    del package[part][name]


@pytest.mark.parametrize(
    ("path", "part", "field"),
    [
        ("training.model_files", "parameters", "model file: model.safetensors"),
        ("training.seeds", "parameters", "seed: torch"),
        ("training.feature_code", "parameters", "feature pipeline commit"),
        ("training.compute", "parameters", "compute: flops"),
        ("training.distributed", "parameters", "shards: root"),
        ("training.checkpoints", "parameters", "last checkpoint: root"),
        ("training.rerun", "parameters", "rerun"),
        ("evaluation.slices", "metrics", "Site=Harbour clinic: auc"),
        ("evaluation.perturbations", "metrics", "Text, typos 0.05 share of letters: auc"),
        ("evaluation.benchmarks", "metrics", "hellaswag.acc_norm"),
    ],
)
def test_comparing_two_packages_names_what_only_one_of_them_has(
    package: dict[str, Any], path: str, part: str, field: str
) -> None:
    before = json.loads(json.dumps(package))
    drop(before, path)
    parts = compare_packages(before, package)["parts"]
    (row,) = [row for row in parts[part] if row["field"].lower() == field.lower()]
    assert row["before"] is None
    assert row["after"] is not None
    assert not any(rows for name, rows in parts.items() if name != part), "and nothing else differs"


def test_the_changes_since_the_last_release_name_the_new_fields(package: dict[str, Any]) -> None:
    fields = {item["field"]: item["after"] for item in package["changes"]["items"]}
    assert fields["seed torch"] == 20261118
    assert fields["feature pipeline commit"] == FEATURES
    assert "uv.lock " in fields["lock file"]
    assert fields["hellaswag.acc_norm"] == 0.4123
