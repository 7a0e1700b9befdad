"""The people of the demo: founders, builder, reviewers; how they are enrolled, and the thresholds that one of them signs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cognify_dagster.documents.pdf.seal import create_seal
from cognify_dagster.evaluation import load_gate_set
from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    ROLES,
    Founder,
    PersonalKey,
    adopt_gate_set,
    create_key,
    directory,
    enrol_person,
    found_workspace,
    parse_policy,
    policy_in_force,
    read_public,
    unlock_key,
)
from cognify_dagster.records import GateRule, GateSetAdopted, Person
from cognify_dagster.training import capture_code
from cognify_dagster.workspace import Workspace, WorkspaceError, os_login
from examples.credit_default.reset import ORIGIN, SEAL_CERTIFICATE
from examples.credit_default.review_site import SITE_PORT
from examples.credit_default.story import Story

MODEL = "credit_default"
DATASETS = ("loans_train", "loans_holdout")
GATES = Path(__file__).with_name("gates.yaml")

# The demo stands for several people at one keyboard, so it holds their pass phrase, and its README tells it. Real people type
# their own.
PASSPHRASE = "only for the demonstration"


@dataclass(frozen=True)
class Actor:
    """A person of the story."""

    person: str
    name: str
    title: str
    roles: tuple[str, ...]


ADA = Actor("person/ada", "Ada Okafor", "Head of Model Governance", ("workspace_admin",))
FINN = Actor("person/finn", "Finn Larsen", "Chief Risk Officer", ("workspace_admin",))
BEN = Actor("person/ben", "Ben Ito", "Data Scientist", ("data_scientist", "ml_engineer"))
VERA = Actor("person/vera", "Vera Santos", "Model Validator", ("model_validator",))
CARL = Actor("person/carl", "Carl Weiss", "Compliance Officer", ("compliance_officer",))
OLGA = Actor("person/olga", "Olga Petrova", "Head of Cards", ("business_owner",))
DORA = Actor("person/dora", "Dora Klein", "Data Steward", ("data_steward",))

# The standard policy, and what a bank would add for a model of high risk: a role of its own for data, whose holder approves the first
# snapshot and every change of the loans. Whoever took the snapshot cannot.
POLICY_YAML = (
    DEFAULT_POLICY_YAML
    + f"""\
roles: [{", ".join((*ROLES, *DORA.roles))}]
"""
).replace(
    """  - {names: ["*"], reason: required}
""",
    """  - {names: ["*"], reason: required}
  - {names: ["loans_*"], tiers: [high], approval: {role: data_steward}, fully_hashed: true}
""",
)


def key_path(workspace_home: Path, actor: Actor) -> Path:
    """Where the demo keeps a person's encrypted key."""
    return workspace_home / "people" / f"{actor.person.split('/')[1]}.key.json"


def unlock(workspace: Workspace, actor: Actor) -> PersonalKey:
    """Unlock a person's key."""
    return unlock_key(key_path(workspace.home, actor), PASSPHRASE)


def found(story: Story) -> Workspace:
    """Open the demo's workspace, founding it first if there is none."""
    staging = story.root / ".cognify-demo-keys"
    config = story.root / "cognify.toml"
    if config.exists():
        workspace = Workspace.open(config)
        if workspace.origin != ORIGIN:
            raise WorkspaceError(
                f"{config} belongs to {workspace.origin}, not to the demo; run the demo in a fresh checkout"
            )
        _place_founders_keys(workspace, staging)  # a run that was interrupted at this point left them behind
        story.step("Genesis: the ledger exists already")
        story.say(f"{workspace.origin}, {workspace.read().size} entries, {config}")
        return workspace
    import yaml

    story.step("Genesis: two founders open the ledger")
    shutil.rmtree(staging, ignore_errors=True)
    founders = []
    for actor in (ADA, FINN):
        key = create_key(staging / f"{actor.person.split('/')[1]}.key.json", actor.person, PASSPHRASE)
        founders.append(Founder(key, actor.name, actor.roles, actor.title))
    workspace = found_workspace(
        story.root,
        origin=ORIGIN,
        founders=founders,
        policy=parse_policy(yaml.safe_load(POLICY_YAML)),
        policy_text=POLICY_YAML,
        recovery_threshold=2,
    )
    _place_founders_keys(workspace, staging)
    workspace = _with_seal(workspace)
    story.say(f"{ADA.name} and {FINN.name} signed the genesis entry of {ORIGIN}")
    story.say(f"Trust file for auditors, to be kept apart from the ledger: {workspace.config.trust}")
    story.say(f"Final copies are sealed; the certificate for their readers: {SEAL_CERTIFICATE}")
    return workspace


def _with_seal(workspace: Workspace) -> Workspace:
    """Make the key that seals final copies; name it in the settings, and the review site that `make up` starts."""
    config = workspace.config.path
    key = workspace.home / "keys" / "seal.pem"
    key.parent.mkdir(mode=0o700, exist_ok=True)
    create_seal(key, config.parent / SEAL_CERTIFICATE, "Northbank, model documents (demonstration)")
    settings = f'\n[seal]\nkey = "{key.relative_to(config.parent)}"\ncertificate = "{SEAL_CERTIFICATE}"\n'
    settings += f'\n[review]\nurl = "http://localhost:{SITE_PORT}"\n'
    with config.open("a", encoding="utf-8") as stream:
        stream.write(settings)
    return Workspace.open(config)


def _place_founders_keys(workspace: Workspace, staging: Path) -> None:
    for actor in (ADA, FINN):
        target = key_path(workspace.home, actor)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        if not target.exists():
            shutil.move(staging / target.name, target)
    shutil.rmtree(staging, ignore_errors=True)


def enrol(story: Story, workspace: Workspace) -> None:
    """Enrol builder, data steward, validator, compliance officer and business owner; Ada and Finn vouch for each.

    Who is enrolled already stays. A workspace that an earlier release of the demo founded knows no data steward.
    """
    aliases = {"user:ben", f"os:{os_login()}", "schedule:credit_weekly_retraining"}
    aliases |= {f"git:{author}" for author in capture_code(Path(__file__).parent).authors}
    known = set(policy_in_force(workspace.read()).policy.roles)
    actors = {
        actor: aliases if actor is BEN else set()
        for actor in (BEN, DORA, VERA, CARL, OLGA)
        if known >= set(actor.roles)
    }
    missing = [actor for actor, wanted in actors.items() if not _enrolled(workspace, actor, wanted)]
    story.step("People are enrolled; two others vouch for each" if missing else "People are enrolled already")
    for actor, wanted in actors.items():
        if actor not in missing:
            story.say(f"Exists already: {actor.name}, {actor.title}: {', '.join(actor.roles)}")
            continue
        path = key_path(workspace.home, actor)
        key = unlock(workspace, actor) if path.exists() else create_key(path, actor.person, PASSPHRASE)
        before = _standing(workspace, actor)
        person = Person(
            person=actor.person,
            name=actor.name,
            title=actor.title,
            roles=actor.roles,
            aliases=tuple(sorted(wanted | set(before.aliases if before is not None else ()))),
            keys=(key.public,),
        )
        enrol_person(workspace, person, unlock(workspace, ADA), unlock(workspace, FINN))
        story.say(f"{actor.name}, {actor.title}: {', '.join(actor.roles)}; key {key.key_id}, encrypted in {path}")
    story.say(f"{BEN.name} is the builder: runs and commits here are attributed to him, so he cannot approve them.")


def _standing(workspace: Workspace, actor: Actor) -> Person | None:
    reading = workspace.read()
    return directory(reading).person_at(actor.person, reading.size)


def _enrolled(workspace: Workspace, actor: Actor, aliases: set[str]) -> bool:
    """Whether the ledger knows the person with the key that lies here and under these names."""
    path = key_path(workspace.home, actor)
    standing = _standing(workspace, actor)
    if standing is None or not path.exists():
        return False
    return read_public(path)[1] in standing.keys and aliases <= set(standing.aliases)


def sign_gates(story: Story, workspace: Workspace) -> None:
    """Vera adopts the thresholds before any result exists."""
    gates = load_gate_set(GATES)
    rules = [GateRule.model_validate(gate.model_dump()) for gate in gates.gates]
    adopted = [item for item in workspace.read().all(GateSetAdopted) if item.record.name == gates.name]
    if adopted and list(adopted[-1].record.gates) == rules:
        story.step("Thresholds are signed already")
        story.say(f"{len(rules)} thresholds, gate set {gates.name!r}, ledger entry {adopted[-1].seq}")
        return
    story.step("Thresholds are signed before any result exists")
    receipt = adopt_gate_set(workspace, gates.name, MODEL, rules, unlock(workspace, VERA))
    story.say(f"{VERA.name} signed {len(rules)} thresholds as gate set {gates.name!r}: ledger entry {receipt.seq}")
