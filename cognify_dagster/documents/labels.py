"""The printed words for what the package names by machine values: statuses, sections, roles, columns. Pure.

Every document takes its words from here, so that one thing has one name; `glossary` explains them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Printed words of a status; the machine value stays in the package.
STATUS_LABELS = {
    "satisfied": "evidence present",
    "missing": "missing",
    "needs_human": "a person must judge",
    "after_release": "after release",
    "stale": "stale",
    "insufficient_data": "insufficient data",
    "declared_unavailable": "declared unavailable",
    "not_applicable": "not applicable",
    "pass": "pass",
    "fail": "fail",
    "unwritten": "a person must write",
}
STATUS_SIGNS = {
    "satisfied": "●",
    "missing": "○",
    "needs_human": "◐",
    "unwritten": "◐",
    "after_release": "▷",
    "stale": "△",
    "insufficient_data": "□",
    "declared_unavailable": "◇",
    "not_applicable": "–",
    "pass": "●",
    "fail": "○",
}
#: Sections that are fields of a model's registration.
HUMAN_FIELDS = ("intended_use", "out_of_scope", "limitations", "failure_modes")
SECTION_TITLES = {
    "intended_use": "Intended use",
    "out_of_scope": "Uses out of scope",
    "limitations": "Limitations",
    "failure_modes": "Failure modes",
    "reason_code_table": "Table of reason codes",
    "adverse_action_notice": "Adverse action notice",
    "attribute_source": "Source of protected attributes",
    "challenge_record": "Record of challenges",
    "concept_review": "Review of conceptual soundness",
    "feature_review": "Review of features",
    "proxy_review": "Review of proxies",
    "record_retention": "Retention of records",
    "vendor_review": "Review of vendors",
    "ab2013_scope": "AB 2013: does it apply",
    "ecdis_scope": "External consumer data (ECDIS): does it apply",
    "ce_marking": "CE marking",
    "cbrn_risk": "CBRN risk",
    "tdm_reservations": "Reservations of text and data mining",
    "ai_systems_program": "AIS program",
    "inclusion_exclusion": "Inclusion and exclusion",
    "engineering_and_security": "Engineering and security",
    "business_associate_contracts": "Contracts with business associates",
    "reidentification_codes": "Codes for re-identification",
    "metric_choice": "Choice of metrics",
    "human_ai_team": "People and AI working together",
    "human_ai_risk": "Risk in how people and AI interact",
}
STRENGTHS = {"S2": "single sign-on, signed in again", "S3": "personal software key", "S4": "passkey"}
_ACRONYMS = {
    word.lower(): word
    for word in [
        "AI",
        "AIR",
        "AUC",
        "ECE",
        "ECOA",
        "EU",
        "FCRA",
        "FDA",
        "FPR",
        "GDPR",
        "GPAI",
        "GPU",
        "HIPAA",
        "HMDA",
        "ID",
        "KS",
        "LDA",
        "MRM",
        "NAIC",
        "NIST",
        "PII",
        "PPV",
        "SHA",
        "TPR",
        "UK",
        "US",
        "USD",
    ]
}
_LABELS = {
    "auc": "AUC",
    "ks": "KS",
    "gini": "Gini",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "log_loss": "Log loss",
    "confidence": "Confidence of intervals",
    "min_cell": "Minimum group size",
    "n_boot": "Resamples",
}


def label(name: str) -> str:
    """Return a technical name for print: `eu_human_review` is "EU human review", `AGE_BAND` is "Age band"."""
    if name in _LABELS:
        return _LABELS[name]
    if not re.fullmatch(r"[A-Za-z0-9_]+", name) or not name.strip("_"):
        return name  # a sentence or foreign script, and no technical name
    parts = [part for part in name.split("_") if part]
    shown = [_ACRONYMS.get(part.lower(), part.lower() if part.isupper() or part.islower() else part) for part in parts]
    return " ".join([shown[0][:1].upper() + shown[0][1:], *shown[1:]])


def metric_label(name: str) -> str:
    """Return a metric for print: `fairness.AGE_BAND.adverse_impact_ratio` is "Adverse impact ratio, age band"."""
    area, _, rest = name.partition(".")
    if area == "fairness" and "." in rest:
        attribute, _, measure = rest.rpartition(".")
        return f"{label(measure)}, {label(attribute).lower()}"
    if area in ("fairness", "data") and rest:
        return label(rest)
    if rest in ("ci_low", "ci_high"):
        return f"{label(area)}, {'lower' if rest == 'ci_low' else 'upper'} end of its interval"
    return "Number of records" if name == "n" else label(name)


def words(name: str) -> str:
    """Return a technical name inside a sentence: `compliance_officer` is "compliance officer"."""
    return " ".join(_ACRONYMS.get(word.lower(), word) for word in name.replace("_", " ").split())


def with_name(name: str) -> str:
    """Return the label, with the technical name behind it where a reader would not find it again: "Age band (AGE_BAND)"."""
    shown = label(name)
    return shown if shown.lower() == name.lower() else f"{shown} ({name})"


def section_title(section: str) -> str:
    """Return the title of a section that people write."""
    return SECTION_TITLES.get(section) or label(section)


def label_status(line: Mapping[str, Any]) -> str:
    """Return which label a requirement's line gets: its status, or `unwritten` where a text or statement is not there yet."""
    status = str(line["status"])
    if status != "needs_human":
        return status
    open_text = any(gap["status"] == "needs_human" and not gap.get("answered_by") for gap in line["gaps"])
    return "unwritten" if open_text else status


def status_words(status: str) -> str:
    """Return sign and words of a status; unknown ones as they are."""
    return f"{STATUS_SIGNS.get(status, '○')} {STATUS_LABELS.get(status) or words(status)}"
