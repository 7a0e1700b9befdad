"""The words of the printed package, explained on one page. Pure."""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.frameworks.loading import BASIS_TEXT
from cognify_dagster.documents.labels import status_words
from cognify_dagster.documents.view.blocks import Block, Cell, bold, heading, table

Json = dict[str, Any]

_RECORDS = (
    ("Ledger, entry", "The tamper-evident list of records; an entry is one record in it, cited by its number."),
    ("Package", "The file package.json about one model version. Its SHA-256 is what people sign."),
    ("Review copy, final copy", "The package in print before the sign-offs; the same package with the sign-offs."),
    ("Snapshot, root", "Data as they were at one moment; the root is a hash over all of them."),
    ("Sealed training run", "The one training that the version stands on; a second one is refused."),
    ("Gate", "A limit that was signed before training, and whether the result keeps to it."),
    ("Finding", "What a reader must not miss, derived from the records and never entered by hand."),
    (
        "Proxy review",
        "A look at features that could stand in for a protected trait: how well they predict it, why they are used.",
    ),
    ("Reason codes", "The stated reasons of a decision about a person."),
    ("Champion", "The version or approach in use, against which a new one is measured on the same data."),
    ("Sensitivity", "What becomes of a metric when an input is changed on purpose."),
)
_STATUSES = (
    ("satisfied", "All evidence that is asked for is in the ledger. It is evidence, not a verdict of law."),
    ("missing", "Something that a machine or a team has to produce is not in the ledger."),
    ("needs_human", "The evidence is there; whether it is enough, a person says by signing."),
    ("unwritten", "A text or statement of a person is not there yet."),
    ("after_release", "It can hold only once the version is deployed and watched; nothing is owed before."),
    ("stale", "The evidence is about something else, or older than allowed."),
    ("insufficient_data", "A group is too small to be measured."),
    ("declared_unavailable", "Somebody stated, with a reason, that it does not exist; it never counts as evidence."),
    ("not_applicable", "A stated fact leads out of the requirement; the fact is named."),
)
_BASES = (
    ("primary", "Our summary was compared with the text itself."),
    ("secondary", "Our summary rests on what others write about the text."),
    ("memory", "Check the citation against the text before relying on it."),
)
_STRENGTHS = (
    ("Strength S2", "The signer logged in again through the organisation's single sign-on."),
    ("Strength S3", "The signer's own key, protected by a pass phrase."),
    ("Strength S4", "A passkey that verified the signer."),
    (
        "Law, guidance",
        "Law binds whoever is in its scope. Guidance is what supervisors expect; not following it is no breach as such.",
    ),
)
_MEASURES = (
    ("Selection rate", "Share of a group that gets the favourable decision."),
    ("TPR, true favourable rate", "Share of those who would do well that gets the favourable decision."),
    ("FPR, false favourable rate", "Share of those who would not do well that gets it all the same."),
    (
        "Adverse impact ratio",
        "Lowest selection rate divided by the highest; below 0.8 is a usual prompt to look closer.",
    ),
    ("Demographic parity difference", "Highest selection rate less the lowest."),
    ("Equal opportunity difference", "Highest TPR less the lowest."),
    ("Equalized odds difference", "The larger of the gaps in TPR and in FPR."),
    ("Predictive parity difference", "Gap in how often a favourable decision turns out well."),
    (
        "AUC, Gini, KS",
        "How well scores put risky cases above safe ones; Gini is 2 × AUC less 1, KS the widest gap between both curves.",
    ),
    ("Brier score, log loss", "How close probabilities are to what happened; lower is better."),
    ("Expected calibration error", "Mean gap between predicted and observed rates over score bands."),
    ("Interval", "Range that contains the true value with the stated confidence, from the number of records."),
)


def glossary_blocks(package: Json) -> list[Block]:
    """One table for each field of words; measures only where an evaluation is shown."""
    statuses = [(status_words(name), text) for name, text in _STATUSES]
    bases = [(BASIS_TEXT[name], text) for name, text in _BASES]
    parts = [
        ("Records and documents", _RECORDS),
        ("Status of a requirement", tuple(statuses)),
        ("How far a citation was checked", tuple(bases)),
        ("Signatures and force", _STRENGTHS),
    ]
    if package["evaluation"] is not None:
        parts.append(("Measures", _MEASURES))
    blocks = [heading("Glossary")]
    for caption, terms in parts:
        rows: list[list[Cell]] = [[[bold(term)], text] for term, text in terms]
        blocks += table(["Term", "Meaning"], [30, 70], rows, caption=caption, size=8.4)
    return blocks
