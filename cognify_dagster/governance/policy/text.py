"""A policy in plain sentences, and the difference between two policies in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cognify_dagster.governance.policy.document import DatasetRule, Policy, RequiredAttestation, Stage

_HANDS = {
    "run_launcher": "who launched its training",
    "commit_authors": "who wrote its code",
    "package_builder": "who built its package",
    "gate_set_adopter": "who adopted its thresholds",
    "dataset_approver": "who attested or approved its data",
}
_EVENTS = {
    "data_change": "newer data of a dataset it was trained on",
    "base_model_change": "a changed base model",
    "drift_breach": "a breached drift limit",
    "incident": "an incident",
    "framework_change": "a changed framework",
    "policy_change": "another policy",
}
_STRENGTH = {
    "S2": "a signature after single sign-on",
    "S3": "a signature with a personal key",
    "S4": "a signature with a passkey",
}


def joined(words: Iterable[str], last: str = "and") -> str:
    """Return `a, b and c`."""
    found = [word.replace("_", " ") for word in words]
    return f"{', '.join(found[:-1])} {last} {found[-1]}" if len(found) > 1 else "".join(found)


def one_of(roles: Iterable[str]) -> str:
    """Return `a validator or a business owner`, roles as words."""
    return joined([_one(role) for role in roles], "or") or "nobody"


def _one(role: str) -> str:
    words = role.replace("_", " ").replace("ml engineer", "ML engineer")
    return f"{'an' if words.startswith(('ML', 'a', 'e', 'i', 'o')) else 'a'} {words}"


def _begin(text: str) -> str:
    return text[:1].upper() + text[1:]


def explain_policy(policy: Policy) -> list[tuple[str, list[str]]]:
    """Return the policy as sentences under headings, for people who read no YAML."""
    return [
        *((f"Tier {name}", _tier(policy, name)) for name in policy.tiers),
        ("Who may not sign", _separation(policy)),
        ("What ends approvals and releases", _ends(policy)),
        ("Findings", _findings(policy)),
        ("Data", _data(policy)),
        ("Documentation", _documentation(policy)),
        ("Exceptions", _exceptions(policy)),
        ("Roles and people", _people(policy)),
    ]


def _tier(policy: Policy, name: str) -> list[str]:
    tier = policy.tiers[name]
    lines = [f"{number}. {_stage(stage, key)}" for number, (key, stage) in enumerate(policy.stages_of(name), 1)]
    if any(stage.kind == "sign_off" for _, stage in policy.stages_of(name)):
        lines.append(f"Approvals last {tier.approval_days} days.")
        if tier.sign_off_days is not None:
            limit = "1 day" if tier.sign_off_days == 1 else f"{tier.sign_off_days} days"
            lines.append(
                f"Each stage should be signed within {limit}; who is late is reminded, and nothing else follows."
            )
        lines.append(
            "A change plan may stand in for sign-offs."
            if tier.change_plans
            else "No change plan stands in for sign-offs."
        )
    else:
        lines.append("Nobody signs: the gates alone decide.")
    if tier.review_days is None:
        lines.append("No periodic review is demanded.")
    else:
        late = "suspends it and holds back releases" if tier.overdue_review == "block" else "is shown"
        lines.append(f"What is live is reviewed every {tier.review_days} days; an overdue review {late}.")
    return lines


def _stage(stage: Stage, name: str) -> str:
    title = stage.title or name
    if stage.kind == "automated":
        return f"{title}: the gates {joined(stage.gates)} pass."
    wanted = [f"{count} {role.replace('_', ' ')}{'s' if count > 1 else ''}" for role, count in stage.wanted.items()]
    least = (
        "" if stage.min_strength == "S3" else f", at least with {_STRENGTH[stage.min_strength]} ({stage.min_strength})"
    )
    return f"{title}: {joined(wanted)} sign{'s' if sum(stage.wanted.values()) == 1 else ''}{least}: “{stage.meaning}”"


def _separation(policy: Policy) -> list[str]:
    rule = policy.separation_of_duties
    lines = []
    if rule.exclude:
        lines.append(
            f"Nobody signs off a version who had a hand in it: {joined([_HANDS[item] for item in rule.exclude])}."
        )
    else:
        lines.append("Who had a hand in a version may sign it off.")
    if rule.distinct_people_across_stages:
        lines.append("Every stage is signed by other people.")
    else:
        lines.append("One person may sign several stages.")
    lines += [f"{joined(group)} do not judge each other's work." for group in rule.conflicts]
    word = "holds the release back" if policy.unattributed == "block" else "is noted, and holds nothing back"
    lines.append(f"Work by somebody who is not enrolled {word}.")
    return lines


def _ends(policy: Policy) -> list[str]:
    lines = []
    if policy.voids:
        lines.append(
            f"Approvals given before it count no more after {joined([_EVENTS[item] for item in policy.voids], 'or')}."
        )
    else:
        lines.append("No event voids approvals.")
    live = "suspends what is live, too" if policy.blocked_live == "suspend" else "is reported for what is live"
    lines.append(f"{_begin(one_of(policy.blockers))} may block a version; a block {live}.")
    return lines


def _findings(policy: Policy) -> list[str]:
    rule = policy.findings
    blocking = f"Open findings of severity {joined(rule.blocking, 'or')} hold releases back." if rule.blocking else (
        "No open finding holds a release back."
    )  # fmt: skip
    return [
        blocking,
        f"Raised by {one_of(rule.open_roles)}; closed by {one_of(rule.close_roles)}.",
        f"Their risk is accepted by {one_of(rule.accept_roles)}, for at most {rule.max_acceptance_days} days.",
    ]


def _documentation(policy: Policy) -> list[str]:
    lines = [f"People write about every model or version: {joined(policy.required_fields) or 'nothing is demanded'}."]
    for name, tier in policy.tiers.items():
        if tier.required_sections:
            lines.append(f"In tier {name} also these are not empty: {joined(tier.required_sections)}.")
        if tier.blocking_frameworks:
            listed = ", ".join(tier.blocking_frameworks)
            lines.append(
                f"In tier {name} open mandatory requirements of these frameworks stop a run in Dagster: {listed}."
            )
    return lines + [_attestation(wanted) for wanted in policy.required_attestations]


def _data(policy: Policy) -> list[str]:
    lines = [line for rule in policy.datasets for line in _dataset(rule)]
    return lines or ["Nothing is demanded of data before a model is trained on it."]


def _dataset(rule: DatasetRule) -> list[str]:
    every = rule.names == ("*",)
    which = "every dataset" if every else f"datasets named {', '.join(rule.names)}"
    where = f" of tier {joined(rule.tiers, 'or')}" if rule.tiers else ""
    begin = f"No model{where} is trained or evaluated on {which}"
    lines = []
    if rule.reason == "required":
        lines.append(f"{begin} after a change without a declared reason.")
    if rule.approval is not None:
        wanted = rule.approval
        who = f"{wanted.quorum} {wanted.role.replace('_', ' ')}{'s' if wanted.quorum > 1 else ''}"
        lines.append(
            f"{begin} before {who} who did not make the snapshot approved the difference, "
            f"with {_STRENGTH[wanted.strength]} ({wanted.strength}) or better."
        )
    if rule.fully_hashed:
        lines.append(f"{begin} unless all of its bytes were read and hashed for the snapshot.")
    return lines or [f"Nothing is demanded of {which}{where}."]


def _rule(value: Any) -> str:
    """A rule for data as it stands in JSON, in words."""
    if not isinstance(value, dict):
        return _shown(value)
    return " ".join(_dataset(DatasetRule.model_validate(value)))


def _attestation(wanted: RequiredAttestation) -> str:
    about = {"model": "the model", "version": "the version", "datasets": "each of its data sets"}[wanted.about]
    by = f" by {one_of(wanted.roles)}" if wanted.roles else ""
    where = [f"in tier {joined(wanted.tiers, 'or')}"] if wanted.tiers else []
    where += [f"on {', '.join(wanted.targets)}"] if wanted.targets else []
    where += [f"for models under {', '.join(wanted.frameworks)}"] if wanted.frameworks else []
    party = f", with everyone whom the fact {wanted.party_fact} names" if wanted.party_fact else ""
    scope = f" {' '.join(where)}" if where else ""
    return f"No release{scope} without the attestation {wanted.text_id} about {about}{by}{party}."


def _exceptions(policy: Policy) -> list[str]:
    rule = policy.break_glass
    lines = [f"{_begin(one_of(policy.rollback_roles))} may order that an earlier version goes live again."]
    if rule.enabled:
        lines.append(
            f"In an emergency {rule.quorum} people, each {one_of(rule.roles)}, with {one_of([rule.extra_role])} among them, may break "
            f"the glass: a release without some sign-offs, for at most {rule.max_hours} hours."
        )
    else:
        lines.append("There are no emergency releases without sign-offs (break-glass is off).")
    for name, target in policy.targets.items():
        if target.after:
            hours = f" for {target.min_hours} hours" if target.min_hours else ""
            lines.append(f"A version goes to {name} only after it was live on {joined(target.after)}{hours}.")
    return lines


def _people(policy: Policy) -> list[str]:
    rule = policy.people
    lines = [
        f"A policy is adopted by {policy.policy_quorum} people, each {one_of(policy.adopters)}; "
        f"thresholds by {one_of(policy.gate_set_adopters)}.",
        f"A model's tier is signed by {one_of(policy.classifiers)}, by two people where sign-offs would be lost; until "
        f"then tier {policy.strictest_tier} applies.",
        f"People are enrolled with {rule.vouchers} signatures; periodic reviews are signed by {one_of(policy.review_roles)}.",
    ]
    if rule.recertify_days is not None:
        lines.append(f"A role counts only if it was confirmed within {rule.recertify_days} days.")
    if rule.max_delegation_days:
        lines.append(f"A role may be delegated for at most {rule.max_delegation_days} days.")
    else:
        lines.append("Roles may not be delegated.")
    return lines


def policy_changes(before: Policy, after: Policy) -> list[str]:
    """Return every difference between two policies, one sentence each; what is new in `after` comes first in a sentence."""
    old, new = before.as_json(), after.as_json()
    lines: list[str] = []
    for name in sorted(set(old["tiers"]) | set(new["tiers"])):
        lines += _part(f"tier {name}", old["tiers"].get(name), new["tiers"].get(name), _TIER)
    for name in sorted(set(old["stages"]) | set(new["stages"])):
        lines += _part(f"stage {name}", old["stages"].get(name), new["stages"].get(name), _STAGE)
    for name in sorted(set(old["targets"]) | set(new["targets"])):
        lines += _part(f"target {name}", old["targets"].get(name), new["targets"].get(name), {})
    for key in dict.fromkeys((*old, *new)):  # what is empty may not stand there at all
        if key in ("tiers", "stages", "targets"):
            continue
        before_, value = old.get(key, []), new.get(key, [])
        if key == "datasets":
            before_, value = [_rule(item) for item in before_], [_rule(item) for item in value]
        if isinstance(value, dict):
            lines += _part(key.replace("_", " "), before_, value, {})
        elif value != before_:
            lines.append(_changed(key.replace("_", " "), "", before_, value))
    return lines


_TIER = {
    "approval_days": "approvals last {new} days instead of {old}",
    "review_days": "what is live is reviewed {new} instead of {old}",
    "sign_off_days": "a stage should be signed {new} instead of {old}",
    "overdue_review": "an overdue review means {new} instead of {old}",
}
_STAGE = {
    "quorum": "{new} people of its role sign instead of {old}",
    "role": "it is signed by the role {new} instead of {old}",
    "meaning": "its meaning is now “{new}”; before “{old}”",
    "min_strength": "signatures need strength {new} instead of {old}",
}


def _part(name: str, old: dict[str, Any] | None, new: dict[str, Any] | None, words: dict[str, str]) -> list[str]:
    if new is None:
        return [f"{name}: removed"]
    if old is None:
        return [f"{name}: new: {_shown({key: value for key, value in new.items() if value not in (None, '', [], {})})}"]
    lines = []
    for key in dict.fromkeys((*old, *new)):
        if new.get(key) != old.get(key):
            lines.append(_changed(name, key, old.get(key), new.get(key), words.get(key)))
    return lines


def _changed(name: str, key: str, old: Any, new: Any, words: str | None = None) -> str:
    where = f"{name}: {key.replace('_', ' ')}" if key else name
    if words is not None:
        return f"{name}: " + words.format(new=_value(key, new), old=_value(key, old))
    if isinstance(old, list) and isinstance(new, list):
        return f"{where}: {_list_change(old, new)}"
    return f"{where}: {_shown(new)} instead of {_shown(old)}"


def _value(key: str, value: Any) -> str:
    if key == "review_days":
        return "at no set interval" if value is None else f"every {value} days"
    if key == "sign_off_days":
        return "by no set time" if value is None else f"within {value} day{'s' if value > 1 else ''}"
    return _shown(value)


def _list_change(old: Sequence[Any], new: Sequence[Any]) -> str:
    added, gone = [item for item in new if item not in old], [item for item in old if item not in new]
    parts = [f"adds {_shown(added)}"] if added else []
    parts += [f"drops {_shown(gone)}"] if gone else []
    if not parts:
        parts = [f"in the order {_shown(new)}"]
    return " and ".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)
