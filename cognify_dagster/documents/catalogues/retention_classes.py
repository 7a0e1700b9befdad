"""Which retention terms apply to a model's artefacts, which is the longest, and why. Pure.

Invariants: of several terms to keep the longest counts; a duty to erase is never mixed with them and stands beside; a framework
whose scope is undetermined counts (kept too long does less harm than lost), one that does not apply or is no longer in force is
listed with the reason; a rule proposed for adoption never shortens one that is in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, get_args

from cognify_dagster.documents.catalogues.retention_table import OtherRule, RetentionTable
from cognify_dagster.documents.coverage.retention import ARTEFACT_KINDS, LEDGER_START, START_WORDS, STARTS, months_of
from cognify_dagster.documents.frameworks.model import Artefact, Framework
from cognify_dagster.documents.labels import words
from cognify_dagster.records import RetentionRule

ARTEFACTS: tuple[str, ...] = get_args(Artefact)

#: Later starts come later; of two equal terms the one that starts later ends later.
_RANK = {"created": 0, "placed_on_market": 1, "notice": 2, "last_in_force": 3, "deployment_end": 3}


@dataclass(frozen=True)
class Term:
    """One term that applies to an artefact.

    Attributes:
        source: framework id, or empty for a rule outside the frameworks.
        months: None for a duty to erase without a term.
        open_facts: what has to be stated before it is sure that it applies.
        starting: the day from which the law applies, where that lies ahead or is worth saying.
    """

    id: str
    source: str
    title: str
    artefact: str
    months: int | None
    start: str
    citation: str
    basis: str
    label: str
    note: str = ""
    open_facts: tuple[str, ...] = ()
    starting: str | None = None
    frameworks: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The term in words, with where it is written."""
        length = f"{self.months} months {START_WORDS[self.start]}" if self.months else "no fixed term"
        name = self.source or self.title
        later = f", in force from {self.starting}" if self.starting else ""
        unsure = f"; whether it applies is open: state {', '.join(self.open_facts)}" if self.open_facts else ""
        return f"{length} ({name}: {self.citation}{', policy' if self.label == 'policy' else ''}{later}{unsure})"


@dataclass(frozen=True)
class ArtefactTerms:
    """An artefact class: the terms to keep it, the longest first; the duties to erase it; and the reason that is shown."""

    artefact: str
    keep: tuple[Term, ...]
    erase: tuple[Term, ...]
    reason: str

    @property
    def longest(self) -> Term | None:
        """The term that counts."""
        return self.keep[0] if self.keep else None


@dataclass(frozen=True)
class RetentionClasses:
    """What applies to a model.

    Attributes:
        artefacts: one for each class of artefact, in a fixed order.
        silent: frameworks that apply and name no term.
        left_out: what does not count -> why.
        undecided: rules outside the frameworks that wait for a fact -> the facts.
    """

    artefacts: tuple[ArtefactTerms, ...]
    silent: tuple[str, ...]
    left_out: Mapping[str, str]
    undecided: Mapping[str, tuple[str, ...]]

    def keep(self) -> tuple[Term, ...]:
        """Return all terms to keep, artefact by artefact."""
        return tuple(term for item in self.artefacts for term in item.keep)


def retention_classes(
    frameworks: Sequence[Framework], facts: Mapping[str, Any], table: RetentionTable | None = None
) -> RetentionClasses:
    """Return for each class of artefact the terms that apply, the longest, and the reason.

    Args:
        frameworks: those that concern the model.
        facts: what is stated about it, as in a registration's `framework_facts`: general facts at the top, those of one
            framework under its id.
        table: rules outside the frameworks; none if left out.
    """
    terms: list[Term] = []
    silent: list[str] = []
    left_out: dict[str, str] = {}
    for framework in frameworks:
        steps: list[dict[str, Any]] = []
        stated = _stated(facts, framework.id)
        verdict = framework.applicability.evaluate(stated, steps) if framework.applicability else True
        if framework.status in ("draft", "superseded", "withdrawn"):
            left_out[framework.id] = f"its status is {words(framework.status)}"
        elif verdict is False:
            why = "; ".join(f"{s['fact']} is {s['actual']}" for s in steps if s["holds"] is False)
            left_out[framework.id] = f"it does not apply: {why}" if why else "it does not apply"
        elif not framework.retention:
            silent.append(framework.id)
        else:
            unsure = () if verdict else tuple(dict.fromkeys(str(s["fact"]) for s in steps if s["holds"] is None))
            terms += _of_framework(framework, unsure)
    known = {framework.id for framework in frameworks} - set(left_out)
    undecided: dict[str, tuple[str, ...]] = {}
    erase: list[Term] = []
    for rule in table.rules if table else ():
        if rule.frameworks and not known & set(rule.frameworks):
            continue
        steps = []
        applies = rule.applies_when.evaluate(facts, steps) if rule.applies_when else True
        if applies is None:
            undecided[rule.id] = tuple(dict.fromkeys(str(s["fact"]) for s in steps if s["holds"] is None))
        elif applies:
            found = _of_rule(rule)
            terms += found if rule.duty == "keep" else []
            erase += found if rule.duty == "erase" else []
    listed = tuple(_artefact(name, terms, erase) for name in ARTEFACTS)
    return RetentionClasses(listed, tuple(silent), left_out, undecided)


def _stated(facts: Mapping[str, Any], framework: str) -> dict[str, Any]:
    own = facts.get(framework)
    return {**facts, **(own if isinstance(own, Mapping) else {})}


def _of_framework(framework: Framework, unsure: tuple[str, ...]) -> list[Term]:
    starting = framework.effective_from if framework.status == "future" else None
    return [
        Term(
            id=f"{framework.id}.{item.id}",
            source=framework.id,
            title=framework.title,
            artefact=artefact,
            months=months_of(item),
            start=item.start,
            citation=item.citation,
            basis=item.basis,
            label="law",
            note=item.note,
            open_facts=unsure,
            starting=starting,
            frameworks=(framework.id,),
        )
        for item in framework.retention
        for artefact in item.artefacts
    ]


def _of_rule(rule: OtherRule) -> list[Term]:
    return [
        Term(
            id=rule.id,
            source="",
            title=rule.title,
            artefact=artefact,
            months=rule.term,
            start=rule.start,
            citation=rule.citation,
            basis=rule.basis,
            label=rule.label,
            note=rule.note,
            starting=rule.effective_from,
            frameworks=rule.frameworks,
        )
        for artefact in rule.artefacts
    ]


def _length(term: Term) -> tuple[int, int]:
    return term.months or 0, _RANK[term.start]


def _artefact(name: str, terms: Iterable[Term], erase: Iterable[Term]) -> ArtefactTerms:
    keep = sorted((t for t in terms if t.artefact == name), key=lambda t: (-_length(t)[0], -_length(t)[1], t.id))
    remove = sorted((t for t in erase if t.artefact == name), key=lambda t: (t.months or 0, t.id))
    if not keep:
        reason = "no term is known: the organisation's own schedule decides"
    else:
        reason = keep[0].words
        if len(keep) > 1:
            reason += f"; the longest of {len(keep)}"
        later = [t for t in keep[1:] if _RANK[t.start] > _RANK[keep[0].start]]
        if later:
            names = ", ".join(dict.fromkeys(t.source or t.title for t in later))
            reason += f"; {names} can end later where use lasts long, since it counts {START_WORDS[later[0].start]}"
    if remove:
        reason += "; to be erased: " + "; ".join(t.note or t.words for t in remove)
    return ArtefactTerms(name, tuple(keep), tuple(remove), reason)


def proposed_rules(classes: Iterable[RetentionClasses], in_force: Sequence[RetentionRule] = ()) -> list[RetentionRule]:
    """Return a schedule to adopt: the rules in force, and one rule for each term to keep.

    Adopting replaces all rules, so those in force stay in it; of two of one id the longer term and the later start count.

    Args:
        classes: what applies, for one model or several.
        in_force: the rules that count now.
    """
    found: dict[str, RetentionRule] = {rule.id: rule for rule in in_force}
    artefacts: dict[str, dict[str, Term]] = {}
    for item in classes:
        for term in item.keep():
            artefacts.setdefault(term.id, {})[term.artefact] = term
    for name, terms in artefacts.items():
        kinds = tuple(dict.fromkeys(kind for artefact in terms for kind in ARTEFACT_KINDS[artefact]))
        if not kinds:
            continue
        term = next(iter(terms.values()))
        rule = RetentionRule(
            id=_rule_id(name),
            title=f"{term.source or term.title}: {', '.join(words(artefact) for artefact in terms)}",
            months=term.months or 1,
            kinds=kinds,
            frameworks=term.frameworks,
            source=replace(term, open_facts=()).words,
            starts=LEDGER_START[term.start],
        )
        known = found.get(rule.id)
        found[rule.id] = rule if known is None else _longer(known, rule)
    return list(found.values())


def _rule_id(name: str) -> str:
    """The id of a term as the ledger takes it; a long one is cut, and kept apart from others by its digest."""
    plain = name.lower()
    return plain if len(plain) <= 60 else f"{plain[:51]}-{sha256(plain.encode()).hexdigest()[:8]}"


def _longer(known: RetentionRule, rule: RetentionRule) -> RetentionRule:
    """A rule that keeps at least what either keeps."""
    return rule.model_copy(
        update={
            "months": max(known.months, rule.months),
            "starts": max(known.starts, rule.starts, key=STARTS.index),
            "kinds": tuple(dict.fromkeys((*known.kinds, *rule.kinds))) if known.kinds and rule.kinds else (),
            "frameworks": tuple(dict.fromkeys((*known.frameworks, *rule.frameworks)))
            if known.frameworks and rule.frameworks
            else (),
        }
    )
