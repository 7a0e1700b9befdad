"""The attestations without which the policy allows no release: agreements, licences, certification.

Invariants: only an attestation that counts now, for the state this version rests on, meets a demand; where the policy asks for an
agreement with everyone whom a fact of the model names, a fact that is not stated blocks like a missing agreement; nothing
waives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cognify_dagster.governance.oversight.attestations import Attestation, State, attestations_about, snapshot_digest
from cognify_dagster.governance.oversight.classification import Classification
from cognify_dagster.governance.policy.document import RequiredAttestation
from cognify_dagster.governance.release.case import Case, Lineage


def check_attestations(case: Case, classified: Classification, lineage: Lineage) -> None:
    """Block the case for each attestation that the policy demands for its tier and target and that does not count."""
    for wanted in case.policy.required_attestations:
        if _demanded(wanted, case, classified):
            _check(case, wanted, classified, lineage)


def _demanded(wanted: RequiredAttestation, case: Case, classified: Classification) -> bool:
    return (
        (not wanted.tiers or classified.tier in wanted.tiers)
        and (not wanted.targets or case.target in wanted.targets)
        and (not wanted.frameworks or bool(set(wanted.frameworks) & _scope(classified)))
    )


def _scope(classified: Classification) -> set[str]:
    """The frameworks that code or people put the model under."""
    registered = classified.registered.record.frameworks if classified.registered else ()
    signed = classified.signed.record.frameworks if classified.signed else ()
    return {*registered, *signed}


def _check(case: Case, wanted: RequiredAttestation, classified: Classification, lineage: Lineage) -> None:
    parties: list[str] | None = [""]
    if wanted.party_fact:
        parties = _parties(wanted.party_fact, classified)
    if parties is None:
        case.block(
            "attestation_missing",
            f"the model's registration does not say with whom the attestation {wanted.text_id} is needed: the fact "
            f"{wanted.party_fact} names nobody, and does not say false",
            "the model's engineer",
        )
        return
    for state in _states(case, wanted, lineage):
        found, problems = attestations_about(case.reading, case.people, state.about, case.now)
        case.without_effect(problems)
        for party in parties:
            _demand(case, wanted, state, party, found)


def _demand(case: Case, wanted: RequiredAttestation, state: State, party: str, found: Iterable[Attestation]) -> None:
    why: list[str] = []
    for item in found:
        record = item.item.record
        if record.text_id != wanted.text_id or (party and record.party.casefold() != party.casefold()):
            continue
        problem = item.why or state.mismatch(item.item)
        if problem is None and wanted.roles and record.role not in wanted.roles:
            problem = f"it was attested in the role {record.role}"
        if problem is None:
            return
        why.append(f"entry {item.item.seq}: {problem}")
    other = f" with {party}" if party else ""
    text = f"the attestation {wanted.text_id}{other} about {state.about} is missing"
    roles = " or ".join(wanted.roles) or "a person with a role that acts"
    case.block(
        "attestation_missing",
        f"{text} ({'; '.join(why)})" if why else text,
        f"{roles} (`cognify attest {wanted.text_id} --about {state.about}`)",
    )


def _states(case: Case, wanted: RequiredAttestation, lineage: Lineage) -> list[State]:
    """What the attestation has to be about, in the state this version rests on."""
    if wanted.about == "model":
        return [State(f"model/{case.model}")]
    if lineage.training is None:
        return []  # the release is blocked already
    if wanted.about == "version":
        return [State(case.subject, {lineage.training.record.model_file.digest: lineage.training.seq})]
    refs = [*lineage.training.record.datasets]
    refs += [lineage.evaluation.record.dataset] if lineage.evaluation else []
    states = [State(f"dataset/{ref.name}", {snapshot_digest(ref.root): ref.seq}) for ref in refs]
    return list({(state.about, *state.digests): state for state in states}.values())


def _parties(fact: str, classified: Classification) -> list[str] | None:
    """Return the names that a fact gives, none where it says false; None where it is not stated or names nobody."""
    if classified.registered is None:
        return None
    facts: Mapping[str, Any] = classified.registered.record.framework_facts
    own = [facts[name] for name in classified.registered.record.frameworks if isinstance(facts.get(name), Mapping)]
    stated = [group[fact] for group in (facts, *own) if fact in group]
    names = [name for value in stated for name in (value if isinstance(value, list) else [value])]
    if not stated or any(not isinstance(name, str) or not name.strip() for name in names if name is not False):
        return None
    return list(dict.fromkeys(name.strip() for name in names if name is not False))
