"""A small governed model in a real workspace: two data sets, gates signed before training, two versions, sign-offs, a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.documents.package.building import build_package, package_digest
from cognify_dagster.governance import (
    Choice,
    Founder,
    PersonalKey,
    adopt_gate_set,
    complete,
    enrol_person,
    found_workspace,
    gate_digest,
    parse_policy,
    request_release,
    sign_off,
)
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    CodeRef,
    DatasetRef,
    DatasetSnapshot,
    EnvironmentRef,
    Evaluation,
    ExclusionCount,
    GateOutcome,
    GateResult,
    GateRule,
    MetricResult,
    ModelRegistered,
    OverlapChecked,
    Package,
    Person,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import idempotency_key

POLICY = """\
version: 1
title: Model release policy
tiers:
  high: {stages: [automated, validation, compliance, business], approval_days: 180}
stages:
  automated: {kind: automated, title: Automated gates, gates: [performance, fairness]}
  validation: {kind: sign_off, title: Independent validation, role: model_validator, meaning: I validated this version independently of its developers.}
  compliance: {kind: sign_off, title: Compliance and legal review, role: compliance_officer, meaning: I have no objection to the release.}
  business: {kind: sign_off, title: Business sign-off, role: business_owner, meaning: I accept the use of this version for its purpose.}
"""
PEOPLE = {
    "person/ben": ("Ben Okafor", "ml_engineer"),
    "person/vera": ("Vera Marković", "model_validator"),
    "person/carl": ("Carl Jönsson", "compliance_officer"),
    "person/bea": ("Béatrice Dupont", "business_owner"),
}


class Story:
    """Writes the records in order; every step can be left out or bent by a test."""

    def __init__(self, folder: Path, *, trial: bool = False, policy: str = POLICY) -> None:
        people = ["person/ada", "person/otto", *PEOPLE]
        self.keys = {person: PersonalKey(person, Ed25519PrivateKey.generate()) for person in people}
        founders = [Founder(self.keys["person/ada"], "Ada Lindqvist"), Founder(self.keys["person/otto"], "Otto Weiss")]
        self.ws = found_workspace(
            folder,
            origin="example.org/credit",
            founders=founders[:1] if trial else founders,
            policy=parse_policy(yaml.safe_load(policy)),
            policy_text=policy,
            trial=trial,
        )
        for person, (name, role) in PEOPLE.items():
            enrolled = Person(person=person, name=name, roles=(role,), keys=(self.keys[person].public,))
            enrol_person(self.ws, enrolled, *(founder.key for founder in (founders[:1] if trial else founders)))
        self.model = "credit_default"

    def put(self, record: Any, **more: Any) -> int:
        return self.ws.append(record, idem=idempotency_key(str(self.ws.ledger.size())), **more).seq

    def register(self, **change: Any) -> int:
        facts = {
            "model": self.model,
            "title": "Credit card default, 30 days",
            "owner": "team:credit-risk",
            "risk_tier": "high",
            "frameworks": ("sr26-2", "fair-lending"),
            "framework_facts": {
                "us_banking_organisation": True,
                "is_model": True,
                "generative": False,
                "agentic": False,
                "assets_over_30bn": False,
                "uses_vendor_components": False,
                "credit_decision": True,
                "consumer_report_used": False,
                "scoring_system_claimed": True,
                "eu_use": False,
                "lending_scope": "Used to review existing card accounts each month, in the United States only, never for new credit.",
                "scope_rationale": {
                    "text": "A statistical scoring method, neither generative nor agentic, used by a bank: within the guidance.",
                    "author": "person/carl",
                },
            },
            "intended_use": "Ranks existing card accounts by their chance of default next month, for limit reviews by analysts.",
            "out_of_scope": "Decisions on new applications; any use without an analyst.",
            "limitations": "One issuer in Taiwan, 2005. Not representative of other markets; incomes and prices have moved since.",
            "failure_modes": "",
            "protected_attributes": ("SEX", "AGE_BAND"),
        }
        return self.put(ModelRegistered(**{**facts, **change}))

    def gates(self) -> int:
        rules = (
            GateRule(
                id="auc-floor",
                family="performance",
                metric="auc.ci_low",
                op=">=",
                threshold=0.72,
                source="policy",
                reason="Below this the old scorecard is as good.",
            ),
            GateRule(
                id="air-sex",
                family="fairness",
                metric="fairness.SEX.adverse_impact_ratio",
                op=">=",
                threshold=0.8,
                source="convention",
                reason="Screen for closer review.",
            ),
        )
        self.gate_digest = gate_digest(rules)
        self.gate_seq = adopt_gate_set(self.ws, "credit_gates", self.model, rules, self.keys["person/vera"]).seq
        return self.gate_seq

    def snapshot(
        self, name: str, root: str, rows: int, *, part: int = 5, age: float = 35.4855, **change: Any
    ) -> DatasetRef:
        profile = {
            "rows": rows,
            "columns": {
                "AGE": {
                    "type": "int64",
                    "nulls": 0,
                    "distinct": 56,
                    "min": 21,
                    "max": 79,
                    "mean": age,
                    "std": 9.2179,
                },
                "LIMIT_BAL": {
                    "type": "double",
                    "nulls": 3,
                    "nans": 0,
                    "distinct": 81,
                    "min": 10000.0,
                    "max": 1e6,
                    "mean": 167484.3,
                    "std": 129747.7,
                },
                "default": {
                    "type": "int64",
                    "nulls": 0,
                    "distinct": 2,
                    "min": 0,
                    "max": 1,
                    "mean": 0.2212,
                    "std": 0.415,
                },
            },
            "label": {
                "column": "default",
                "classes": [
                    {"value": 0, "count": rows - rows // part, "fraction": 1 - 1 / part},
                    {"value": 1, "count": rows // part, "fraction": 1 / part},
                ],
            },
            "groups": {"SEX": [{"value": "female", "count": rows - rows // 3}, {"value": "male", "count": rows // 3}]},
        }
        item = self.ws.put("profile.json", canonical_json(profile), "application/json")
        facts = {
            "name": name,
            "root": root * 64,
            "data_version": f"cds1:{root * 8}",
            "file_count": 1,
            "total_bytes": rows * 90,
            "record_count": rows,
            "schema_hash": "5" * 64,
            "label": "default",
            "provenance": {
                "source": "UCI 350: default of credit card clients",
                "owner": "I-Cheng Yeh",
                "licence": "CC BY 4.0",
                "jurisdiction": "Taiwan",
                "collected_from": "2005-04-01",
                "collected_to": "2005-09-30",
                "column_purposes": {"AGE": "screening only", "LIMIT_BAL": "exposure"},
            },
            "exclusions": (
                ExclusionCount(
                    rule="exact-duplicates", description="equal in all but ID", rows_before=rows + 35, rows_after=rows
                ),
            ),
            "profile": item,
            "manifest": self.ws.put("manifest.json", f"manifest of {name} {root}".encode(), "application/json"),
        }
        seq = self.put(DatasetSnapshot(**{**facts, **change}))
        return DatasetRef(name=name, root=root * 64, seq=seq, role="holdout" if "holdout" in name else "train")

    def data(self, root: str = "a") -> None:
        later = {} if root == "a" else {"part": 4, "age": 37.5}
        self.train_ref = self.snapshot("loans_train", root, 23970, **later)
        self.holdout_ref = self.snapshot("loans_holdout", "b" if root == "a" else "d", 5995)
        self.put(
            OverlapChecked(
                train=self.train_ref,
                holdout=self.holdout_ref,
                level="record",
                compared_columns=("AGE", "LIMIT_BAL"),
                ignored_columns=("ID", "default"),
                overlapping_records=0,
                passed=True,
            )
        )

    def train(self, version: str, **change: Any) -> int:
        self.put(VersionOpened(model=self.model, version=version, run=f"run-{version}", opened_by="person/ben"))
        self.model_file = self.ws.put("model.skops", f"weights of {version}".encode(), "application/octet-stream")
        detail = self.ws.put("environment.json", b'{"packages":["scikit-learn==1.8.0"]}', "application/json")
        facts = {
            "model": self.model,
            "version": version,
            "datasets": (self.train_ref,),
            "model_file": self.model_file,
            "config": {"learning_rate": 0.06, "max_iter": 220, "max_leaf_nodes": 24, "l2": {"penalty": 1.0}},
            "seed": 20261118,
            "architecture": {"kind": "gradient boosted trees", "library": "scikit-learn 1.8.0"},
            "metrics": {"train_auc": 0.8123},
            "code": CodeRef(
                vcs="git",
                commit="3f9c2d1b8a7e6f5d4c3b2a190817263544536271",
                dirty=False,
                remote="https://git.example.org/credit",
                authors=("git:ben@example.org",),
            ),
            "environment": EnvironmentRef(
                python="3.12.11",
                platform="Linux-6.18-x86_64",
                packages_digest="6" * 64,
                gpu="none",
                container_image="",
                detail=detail,
            ),
            "launched_by": "person/ben",
            "touched_by": ("person/ben",),
            "started_after_seq": self.ws.ledger.size(),
        }
        record = TrainingRun(**{**facts, **change})
        self.model_file = record.model_file
        self.training_seq = self.put(record)
        self.version = version
        return self.training_seq

    def evaluate(self, *, auc: float = 0.7789, small_group: bool = True, **change: Any) -> int:
        def group(name: str, n: int, rate: float | None) -> dict[str, Any]:
            if rate is None:
                return {"group": name, "n": n, "positives": None, "status": "insufficient_data", "selection_rate": None}
            selection = {"value": rate, "ci_low": rate - 0.014, "ci_high": rate + 0.013, "n": n, "status": "computed"}
            return {
                "group": name,
                "n": n,
                "positives": int(n * 0.78),
                "status": "computed",
                "selection_rate": selection,
                "tpr": {**selection, "value": rate + 0.05, "ci_low": rate + 0.03, "ci_high": rate + 0.07},
            }

        def disparity(name: str, value: float, higher: bool) -> dict[str, Any]:
            return {
                "name": name,
                "value": value,
                "ci_low": value - 0.02,
                "ci_high": value + 0.02,
                "unit": "ratio" if higher else "difference",
                "higher_is_better": higher,
                "groups": ["a", "b"],
                "n": 5995,
                "status": "computed",
            }

        ages = [group("21-30", 2204, 0.771), group("31-45", 2876, 0.812), group("46-60", 893, 0.788)]
        if small_group:
            ages.append(group("61+", 22, None))
        fairness = (
            {
                "attribute": "SEX",
                "favourable": "no limit review",
                "purpose": "screen",
                "min_cell": 30,
                "groups": [group("female", 3601, 0.801), group("male", 2394, 0.774)],
                "disparities": [
                    disparity("adverse_impact_ratio", 0.966, True),
                    disparity("equal_opportunity_difference", 0.021, False),
                ],
                "excluded_groups": [],
                "notes": [],
            },
            {
                "attribute": "AGE_BAND",
                "favourable": "no limit review",
                "purpose": "screen",
                "min_cell": 30,
                "groups": ages,
                "disparities": [disparity("adverse_impact_ratio", 0.95, True)],
                "excluded_groups": ["61+"] if small_group else [],
                "notes": ["61+ has 22 records and enters no comparison."] if small_group else [],
            },
        )
        bins = [
            {
                "bin": i + 1,
                "low": i / 10,
                "high": (i + 1) / 10,
                "n": 600,
                "mean_predicted": i / 10 + 0.05,
                "observed_rate": i / 10 + 0.045,
                "ci_low": i / 10 + 0.02,
                "ci_high": i / 10 + 0.07,
            }
            for i in range(10)
        ]
        low = auc - 0.013
        passed = low >= 0.72
        outcomes = (
            GateOutcome(
                id="auc-floor",
                family="performance",
                metric="auc.ci_low",
                op=">=",
                threshold=0.72,
                value=low,
                status="pass" if passed else "fail",
                message=f"auc.ci_low = {low:.4f}; auc.ci_low >= 0.72 {'holds' if passed else 'does not hold'}.",
            ),
            GateOutcome(
                id="air-sex",
                family="fairness",
                metric="fairness.SEX.adverse_impact_ratio",
                op=">=",
                threshold=0.8,
                value=0.966,
                status="pass",
                message="holds.",
            ),
        )
        facts = {
            "model": self.model,
            "version": self.version,
            "model_digest": self.model_file.digest,
            "training_seq": self.training_seq,
            "dataset": self.holdout_ref,
            "evaluator": "credit_eval",
            "code": CodeRef(vcs="git", commit="3f9c2d1b8a7e6f5d4c3b2a190817263544536271", dirty=False),
            "metrics": (
                MetricResult(
                    name="auc",
                    value=auc,
                    ci_low=low,
                    ci_high=auc + 0.012,
                    n=5995,
                    unit="ratio",
                    objective="Ranks risky accounts above safe ones.",
                ),
                MetricResult(name="ks", value=0.412, ci_low=0.387, ci_high=0.436, n=5995, unit="difference"),
                MetricResult(
                    name="brier", value=0.1343, ci_low=0.1298, ci_high=0.1391, n=5995, unit="squared probability"
                ),
            ),
            "tables": {"calibration": bins},
            "fairness": fairness,
            "protected_attributes": ("SEX", "AGE_BAND"),
            "decision_threshold": 0.31,
            "gate_set": "credit_gates",
            "gate_set_seq": self.gate_seq,
            "gate_set_digest": self.gate_digest,
            "outcomes": outcomes,
            "status": "passed" if passed else "failed",
            "artefacts": (self.ws.put("roc.json", b"[[0,0],[1,1]]", "application/json"),),
        }
        self.evaluation_seq = self.put(Evaluation(**{**facts, **change}))
        for family in ("performance", "fairness"):
            chosen = tuple(o for o in outcomes if o.family == family)
            status = "pass" if all(o.status == "pass" for o in chosen) else "fail"
            self.put(
                GateResult(
                    model=self.model,
                    version=self.version,
                    family=family,
                    status=status,
                    outcomes=chosen,
                    based_on=(self.evaluation_seq,),
                )
            )
        return self.evaluation_seq

    def package(
        self, frameworks: Any, now: Any, *, review_copy: bytes | None = None, card: str = "# card\n"
    ) -> dict[str, Any]:
        from cognify_dagster.documents.facts.version import collect

        facts = collect(self.ws.read(), self.model, self.version)
        package = build_package(
            facts, frameworks=frameworks, now=now, revision=len(facts.packages) + 1, evidence=self.ws.evidence.get
        )
        data = canonical_json(package)
        item = self.ws.put("package.json", data, "application/json")
        assert item.digest == package_digest(package)
        self.package_item = item
        self.package_seq = self.put(
            Package(
                model=self.model,
                version=self.version,
                revision=package["revision"],
                package=item,
                review_copy=self.ws.put("review-copy.pdf", review_copy, "application/pdf") if review_copy else None,
                model_card=self.ws.put("model-card.md", card.encode(), "text/markdown"),
                model_digest=self.model_file.digest,
                training_seq=self.training_seq,
                evaluation_seq=self.evaluation_seq,
                dataset_seqs=(self.train_ref.seq, self.holdout_ref.seq),
                policy_digest=facts.policy.digest,
                built_by="person/ben",
                built_from_size=facts.size,
            )
        )
        return json.loads(data)

    def sign(self, person: str, stage: str, decision: str = "approve", **more: Any) -> int:
        return sign_off(self.ws, self.model, self.version, self.keys[person], Choice(decision, stage=stage, **more)).seq

    def sign_all(self) -> list[int]:
        return [
            self.sign("person/vera", "validation"),
            self.sign("person/carl", "compliance"),
            self.sign("person/bea", "business"),
        ]

    def release(self) -> int:
        grant = request_release(
            self.ws, self.model, self.version, "production", f"release-{self.version}", "person/ben"
        )
        complete(self.ws, grant, location="models/live", detail={})
        return grant.seq

    def prepare_version(self, version: str = "1", **change: Any) -> None:
        """Register, adopt gates, snapshot, train and evaluate."""
        self.register()
        self.gates()
        self.data()
        self.train(version, **change)
        self.evaluate()
