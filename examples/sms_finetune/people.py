"""The people of this example, its policy, and what they sign before any result exists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cognify_dagster.evaluation import load_gate_set
from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Founder,
    PersonalKey,
    adopt_gate_set,
    classify_model,
    create_key,
    enrol_person,
    found_workspace,
    parse_policy,
    unlock_key,
)
from cognify_dagster.records import GateRule, Person
from cognify_dagster.training import capture_code
from cognify_dagster.workspace import Workspace, os_login

ORIGIN = "northbank.example/messaging/ledger"
GATES = Path(__file__).with_name("gates.yaml")

# One keyboard stands for several people here, so the example holds their pass phrase. Real people type their own.
PASSPHRASE = "only for the demonstration"


@dataclass(frozen=True)
class Actor:
    """A person of the example."""

    person: str
    name: str
    title: str
    roles: tuple[str, ...]


ADA = Actor("person/ada", "Ada Okafor", "Head of Model Governance", ("workspace_admin",))
FINN = Actor("person/finn", "Finn Larsen", "Chief Risk Officer", ("workspace_admin",))
BEN = Actor("person/ben", "Ben Ito", "Data Scientist", ("data_scientist", "ml_engineer"))
VERA = Actor("person/vera", "Vera Santos", "Model Validator", ("model_validator",))
CARL = Actor("person/carl", "Carl Weiss", "Compliance Officer", ("compliance_officer",))
OLGA = Actor("person/olga", "Olga Petrova", "Head of Messaging", ("business_owner",))

RATIONALE = (
    "Puts messages aside, where users still see them; takes no decision about people. Low exposure, some nuisance when a wanted message "
    "is late: tier medium."
)


def key_path(home: Path, actor: Actor) -> Path:
    """Where the example keeps a person's encrypted key."""
    return home / "people" / f"{actor.person.split('/')[1]}.key.json"


def unlock(workspace: Workspace, actor: Actor) -> PersonalKey:
    """Unlock a person's key."""
    return unlock_key(key_path(workspace.home, actor), PASSPHRASE)


def found(folder: Path) -> Workspace:
    """Found a workspace in an empty folder: two founders sign, four more people are enrolled, two vouch for each."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / "founders"
    founders = [
        Founder(
            create_key(staging / f"{actor.person.split('/')[1]}.key.json", actor.person, PASSPHRASE),
            actor.name,
            actor.roles,
            actor.title,
        )
        for actor in (ADA, FINN)
    ]
    workspace = found_workspace(
        folder,
        origin=ORIGIN,
        founders=founders,
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
        recovery_threshold=2,
    )
    key_path(workspace.home, ADA).parent.mkdir(mode=0o700, exist_ok=True)
    for actor in (ADA, FINN):
        (staging / key_path(workspace.home, actor).name).rename(key_path(workspace.home, actor))
    staging.rmdir()
    vouchers = unlock(workspace, ADA), unlock(workspace, FINN)
    builder = {"user:ben", f"os:{os_login()}"} | {
        f"git:{author}" for author in capture_code(Path(__file__).parent).authors
    }
    for actor in (BEN, VERA, CARL, OLGA):
        key = create_key(key_path(workspace.home, actor), actor.person, PASSPHRASE)
        aliases = tuple(sorted(builder)) if actor is BEN else ()
        person = Person(
            person=actor.person,
            name=actor.name,
            title=actor.title,
            roles=actor.roles,
            aliases=aliases,
            keys=(key.public,),
        )
        enrol_person(workspace, person, *vouchers)
    return workspace


def sign_before(workspace: Workspace, model: str, *, tiny: bool) -> tuple[int, list[GateRule]]:
    """Sign tier and thresholds; return the entry of the thresholds, and them.

    With `tiny` a model of random weights is asked for less: the run shows the path, and its numbers mean nothing.
    """
    classify_model(
        workspace,
        [unlock(workspace, CARL), unlock(workspace, VERA)],
        model=model,
        tier="medium",
        owner=OLGA.person,
        rationale=RATIONALE,
        frameworks=("nist-ai-rmf", "eu-gpai-art53"),
    )
    rules = [GateRule.model_validate(gate.model_dump()) for gate in load_gate_set(GATES).gates]
    if tiny:
        easy = {"ranks-spam": 0.5, "catches-spam": 0, "blocks-little": 1, "blocks-little-surely": 1}
        easy |= {"dialects-alike": 1, "enough-messages": 50}
        why = "Only shows the path: a model of random weights."
        rules = [
            rule.model_copy(update={"threshold": easy[rule.id], "reason": why, "on_insufficient": "pass_with_note"})
            if rule.id in easy
            else rule
            for rule in rules
        ]
    return adopt_gate_set(workspace, "sms_gates", model, rules, unlock(workspace, VERA)).seq, rules
