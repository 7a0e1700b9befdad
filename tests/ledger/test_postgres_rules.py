"""Postgres' append() admits whom the governance room admits, act by act; where they differ is shown too.

A real workspace on SQLite is copied entry by entry into Postgres through append(). After each one every key is asked for
every kind: governance judges a signed entry that might come next, Postgres judges key and kind. Where every act takes effect
they give the same answers. An act that governance ignores may be followed by Postgres, which sees no signatures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.governance import (
    PersonalKey,
    adopt_policy,
    create_key,
    delegate,
    disregard_entry,
    enrol_person,
    enrol_workload,
    parse_policy,
    policy_in_force,
    recertify,
    recover_person,
    revoke_key,
    rotate_key,
)
from cognify_dagster.governance.people.authority import PERSON_SIGNED
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.keys import public_key
from cognify_dagster.governance.signing.statements import act_statement, sign_act
from cognify_dagster.ledger import Draft, Entry, canonical_json
from cognify_dagster.ledger.entry import NO_PREVIOUS, SealedBody, assemble, seal_body
from cognify_dagster.ledger.postgres.store import PostgresStore, WriterRefused
from cognify_dagster.records import Envelope, KeyRevoked, Person, Record, Workload, WorkloadEnrolled
from cognify_dagster.workspace import Writer
from tests.conformance.postgres_server import NewLedger, postgres_ledger
from tests.governance.test_delegation import until
from tests.governance.world import PASSPHRASE, World, make_world
from tests.ledger.test_offline_people import asserted, passkey

pytestmark = pytest.mark.postgres
KINDS = ("training_run", "package", "genesis", "unheard_of", *sorted(PERSON_SIGNED))
Allowed = dict[tuple[str, str], bool]


class Pair:
    """The same ledger in a workspace and in Postgres."""

    def __init__(self, world: World, place: NewLedger) -> None:
        self.world, self.place = world, place
        self.store = place.open()
        self.keys: dict[str, Ed25519PrivateKey | None] = {"": None}
        writer = world.workspace.writer
        assert writer is not None
        self.know(writer._private)
        for key in world.keys.values():
            self.know(key.private)
        self.know(Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))

    @property
    def origin(self) -> str:
        return self.world.workspace.ledger.origin

    def know(self, private: Ed25519PrivateKey) -> str:
        key = public_key(private.public_key().public_bytes_raw())
        self.keys[key.key_id] = private
        return key.key_id

    def workload(self, name: str, seed: int, *kinds: str) -> Workload:
        private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.know(private)
        return Workload(
            workload=f"workload/{name}", key=public_key(private.public_key().public_bytes_raw()), kinds=kinds
        )

    def signed(self, record: Record, by: PersonalKey, *, ledger: str = "") -> Record:
        head = self.world.workspace.ledger.view().checkpoint()  # signed by somebody who saw what it changes
        envelope = sign_act(record, by, ledger=ledger or self.origin, role="workspace_admin", meaning="yes", head=head)
        return record.model_copy(update={"envelope": envelope})

    def enrolment(self, workload: Workload, by: PersonalKey, **changed: Any) -> Record:
        return self.signed(
            WorkloadEnrolled(workload=workload, enrolled_by=changed.pop("claimed", by.person), envelope=UNSIGNED),
            by,
            **changed,
        )

    def raw(self, kind: str, subjects: tuple[str, ...], facts: Any) -> None:
        """An entry of any content, past the records room."""
        payload = canonical_json({"facts": facts, "observed": {}})
        idem = hashlib.sha256(f"{kind}{self.store.size()}".encode()).hexdigest()
        digest = hashlib.sha256(canonical_json(facts)).hexdigest()
        self.world.workspace.ledger.append(
            Draft(
                kind=kind,
                schema=1,
                subjects=subjects,
                actor="person/ada",
                idem=idem,
                payload=payload,
                facts_digest=digest,
            )
        )

    def sync(self) -> None:
        """Bring new entries over with the very bytes that they have, and compare."""
        source = self.world.workspace.ledger.store
        start = self.store.size()
        for row, payload in zip(
            source.entries(start, source.size()), source.payloads(start, source.size()), strict=True
        ):
            entry = Entry.parse(row.data)
            assert payload.data is not None
            assert payload.salt is not None
            assert payload.facts_digest is not None
            body = row.data[len(b'{"body":') : row.data.index(b',"heads":')]
            draft = Draft(
                kind=entry.kind, schema=entry.schema, subjects=entry.subjects, actor=entry.actor, idem=entry.idem,
                payload=payload.data, facts_digest=payload.facts_digest, evidence=entry.evidence,
            )  # fmt: skip
            receipt = self.store.append(SealedBody(draft, payload.salt, body), row.time_us, None)
            assert (receipt.seq, receipt.leaf) == (row.seq, row.leaf)

    def ask(self) -> tuple[Allowed, Allowed]:
        """Ask governance and Postgres for each key and kind; return what each allows."""
        people = directory(self.world.workspace.read())
        size = self.store.size()
        keys = f"'{{{','.join(key for key in self.keys if key)}}}'::text[] || ARRAY['']"
        rows = self.place.sql(
            f"SELECT k, v, ledger_writer_problem({size}, v, k) IS NULL FROM unnest({keys}) AS k, unnest('{{{','.join(KINDS)}}}'::text[]) AS v"
        )
        there = {(key, kind): kind in PERSON_SIGNED or free for key, kind, free in rows}
        here = {}
        for key_id, private in self.keys.items():
            for kind in KINDS:
                draft = Draft(
                    kind=kind, schema=1, subjects=("model/x",), actor="workload/x", idem="cd" * 32, payload=b"{}",
                    facts_digest="00" * 32, key_id=key_id, sign=private.sign if private else None,
                )  # fmt: skip
                data = assemble(self.origin, seal_body(self.origin, draft).body, {"model/x": -1}, NO_PREVIOUS, size, 1)
                here[key_id, kind] = people.writer_problem(Entry.parse(data)) is None
        return here, there

    def compare(self) -> Allowed:
        """Ask both, which must give the same answers; return them."""
        here, there = self.ask()
        assert there == here
        return here

    def step(self, act: Callable[[], object]) -> Allowed:
        """Let something happen that takes effect."""
        act()
        self.sync()
        assert directory(self.world.workspace.read()).problems == []
        return self.compare()

    def ignored(self, act: Callable[[], object]) -> Allowed:
        """Let something happen that governance ignores; return what Postgres allows after it."""
        before, _ = self.ask()
        act()
        self.sync()
        here, there = self.ask()
        assert here == before
        return there


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("postgres") / "world")


@pytest.fixture
def pair(template: World, tmp_path: Path) -> Iterator[Pair]:
    from tests.governance.world import clone

    with postgres_ledger("test.example/credit") as place:
        pair = Pair(clone(template, tmp_path / "w"), place)
        pair.sync()
        yield pair


def allows(pair: Pair, workload: Workload, kind: str) -> bool:
    return pair.compare()[workload.key.key_id, kind]


def test_a_new_workspace_is_judged_alike(pair: Pair) -> None:
    allowed = pair.compare()
    writer = pair.world.workspace.writer
    assert writer is not None
    assert allowed[writer.key_id, "training_run"]
    assert not allowed[writer.key_id, "genesis"]
    assert not allowed["", "training_run"]
    assert all(allowed[key, "key_revoked"] for key in pair.keys)


def test_the_newest_enrolment_decides_the_kinds_and_a_revoked_key_never_comes_back(pair: Pair) -> None:
    ws, ada = pair.world.workspace, pair.world.key("ada")
    first = pair.workload("train", 1, "training_run")
    pair.step(lambda: enrol_workload(ws, first, ada))
    assert allows(pair, first, "training_run")
    assert not allows(pair, first, "package")
    other = first.model_copy(update={"kinds": ("package",)})
    pair.step(lambda: enrol_workload(ws, other, ada))
    assert allows(pair, first, "package")
    assert not allows(pair, first, "training_run")
    pair.step(lambda: revoke_key(ws, "workload/train", first.key.key_id, "lost \0", ada))
    assert not allows(pair, first, "package")
    pair.step(lambda: pair.world.write(pair.enrolment(first, ada)))
    assert not allows(pair, first, "training_run")
    second, third = (pair.workload("train", seed, "training_run", "package") for seed in (2, 13))
    pair.step(lambda: enrol_workload(ws, second, ada))
    pair.step(lambda: enrol_workload(ws, third, ada))
    pair.step(lambda: revoke_key(ws, "workload/train", second.key.key_id, "old", ada))
    assert not allows(pair, second, "package")
    assert allows(pair, third, "package")


def test_whoever_may_enrol_machines_now_their_machines_may_write(pair: Pair, tmp_path: Path) -> None:
    """Rotation, two vouchers, passkeys, recertification, delegation, recovery, a policy, a disregarded entry: nobody honest is refused."""
    ws, world, numbers = pair.world.workspace, pair.world, iter(range(20, 40))
    ada, finn, vera = (world.key(name) for name in ("ada", "finn", "vera"))

    def machine(by: PersonalKey) -> Workload:
        seed = next(numbers)
        found = pair.workload(f"m{seed}", seed, "training_run")
        pair.step(lambda: enrol_workload(ws, found, by))
        assert allows(pair, found, "training_run")
        return found

    first = machine(ada)
    new = create_key(tmp_path / "ada2.json", "person/ada", PASSPHRASE)
    pair.step(lambda: rotate_key(ws, "person/ada", new.public, [ada, finn]))
    machine(new)

    key = passkey("ES256")
    pat = Person(person="person/pat", name="Pat", roles=("workspace_admin",), keys=(key,))
    pair.step(lambda: enrol_person(ws, pat, new, vera))
    target = pair.workload("pats", 41, "package")
    record: Record = WorkloadEnrolled(workload=target, enrolled_by="person/pat", envelope=UNSIGNED)
    facts = {"role": "workspace_admin", "meaning": "yes", "head": ws.ledger.view().checkpoint()}
    statement = act_statement(record, ledger=pair.origin, person="person/pat", key_id=key.key_id, **facts)  # type: ignore[arg-type]
    envelope = Envelope.model_validate(asserted(statement, "ES256", key))
    pair.step(lambda: world.write(record.model_copy(update={"envelope": envelope})))
    assert allows(pair, target, "package")

    pair.step(lambda: recertify(ws, "person/finn", new))
    pair.step(
        lambda: delegate(ws, "person/vera", "compliance_officer", world.key("carl"), expires=until(7), reason="x")
    )
    policy = parse_policy(policy_in_force(ws.read()).policy.as_json() | {"title": "Other"})
    pair.step(lambda: adopt_policy(ws, policy, "x", [new, finn]))
    for who, by in (("pat", new), ("finn", new), ("ada", new)):
        own = {"pat": key.key_id, "finn": finn.key_id, "ada": new.key_id}[who]
        pair.step(lambda who=who, own=own, by=by: revoke_key(ws, f"person/{who}", own, "lost", by))  # type: ignore[misc]
    back = create_key(tmp_path / "ada3.json", "person/ada", PASSPHRASE)
    again = Person(person="person/ada", name="Ada", roles=("workspace_admin",), keys=(back.public,))
    pair.step(lambda: recover_person(ws, again, "all keys were lost", [ada, finn]))
    machine(back)
    nora = create_key(tmp_path / "nora.json", "person/nora", PASSPHRASE)
    named = Person(person="person/nora", name="Nora", roles=("workspace_admin",), keys=(nora.public,))
    pair.step(lambda: recover_person(ws, named, "a second admin", [ada, finn]))
    machine(nora)

    seq = pair.store.size()
    pair.ignored(lambda: pair.raw("person_recertified", ("people",), {}))
    pair.ignored(lambda: disregard_entry(ws, seq, "nobody signed it", [back, nora]))
    machine(back)
    assert allows(pair, first, "training_run")
    pair.step(lambda: revoke_key(ws, first.workload, first.key.key_id, "done", nora))
    assert not allows(pair, first, "training_run")
    assert pair.store.check_derived() == []


def test_acts_that_say_nothing_postgres_can_follow_admit_nobody(pair: Pair) -> None:
    ada, finn = (pair.world.key(name) for name in ("ada", "finn"))
    target = pair.workload("train", 3, "training_run")
    stranger = PersonalKey("person/nobody", Ed25519PrivateKey.from_private_bytes(b"\x08" * 32))
    pair.step(lambda: enrol_workload(pair.world.workspace, pair.workload("own", 14, "package"), ada))
    taken = pair.workload("thief", 14, "training_run")
    false_id = target.model_copy(update={"key": target.key.model_copy(update={"key_id": "0123456789abcdef"})})
    before = pair.compare()
    for record in (pair.enrolment(target, stranger), pair.enrolment(taken, ada), pair.enrolment(false_id, finn)):
        assert pair.ignored(lambda record=record: pair.world.write(record)) == before  # type: ignore[misc]
    revoked = KeyRevoked(
        holder="workload/own", key_id=taken.key.key_id, reason="x", revoked_by=stranger.person, envelope=UNSIGNED
    )
    assert pair.ignored(lambda: pair.world.write(pair.signed(revoked, stranger))) == before


def test_postgres_cannot_check_signatures_and_governance_still_judges(pair: Pair) -> None:
    """Acts of no effect in governance, which reports them, have theirs in the table: a writer more, or one less."""
    ada, vera = pair.world.key("ada"), pair.world.key("vera")
    target = pair.workload("train", 12, "training_run")
    good = pair.enrolment(target, ada)
    assert isinstance(good, WorkloadEnrolled)
    forged = good.envelope.signatures[0].model_copy(update={"sig": "A" * 86 + "=="})
    record = good.model_copy(update={"envelope": good.envelope.model_copy(update={"signatures": (forged,)})})
    assert pair.ignored(lambda: pair.world.write(record))[target.key.key_id, "training_run"]
    assert directory(pair.world.workspace.read()).problems[-1][1] == "the signature does not verify"
    second = pair.workload("train", 15, "training_run")
    assert pair.ignored(lambda: pair.world.write(pair.enrolment(second, vera)))[second.key.key_id, "training_run"]

    third = pair.workload("serve", 16, "package")
    enrol_workload(pair.world.workspace, third, ada)
    pair.sync()
    revoked = KeyRevoked(
        holder="workload/serve", key_id=third.key.key_id, reason="x", revoked_by="person/vera", envelope=UNSIGNED
    )
    assert not pair.ignored(lambda: pair.world.write(pair.signed(revoked, vera)))[third.key.key_id, "package"]
    fourth = pair.workload("serve", 17, "package")
    enrol_workload(pair.world.workspace, fourth, ada)
    pair.sync()
    assert all(answers[fourth.key.key_id, "package"] for answers in pair.ask())


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("key_revoked", {"holder": "workload/train"}),
        ("key_revoked", {"nothing": 1}),
        ("key_revoked", []),
        ("workload_enrolled", {"workload": {"workload": "workload/train", "key": 1, "kinds": []}}),
        (
            "workload_enrolled",
            {"workload": {"workload": "workload/else", "key": {}, "kinds": []}, "enrolled_by": "person/ada"},
        ),
        ("workload_enrolled", None),
    ],
)
def test_an_unreadable_act_ends_the_keys_of_whom_it_was_about(pair: Pair, kind: str, facts: Any) -> None:
    target = pair.workload("train", 5, "training_run")
    pair.step(lambda: enrol_workload(pair.world.workspace, target, pair.world.key("ada")))
    for subjects in (("people", "workload/other"), ("workload/train",)):  # another's; not in the history of people
        pair.raw(kind, subjects, facts)
        pair.sync()
        assert allows(pair, target, "training_run")
    pair.raw(kind, ("people", "workload/train"), facts)
    pair.sync()
    assert not allows(pair, target, "training_run")


def test_an_erased_act_counts_no_more_in_either(pair: Pair) -> None:
    world = pair.world
    target, kept = pair.workload("train", 6, "training_run"), pair.workload("serve", 9, "package")
    enrolled = enrol_workload(world.workspace, target, world.key("ada"))
    pair.step(lambda: enrol_workload(world.workspace, kept, world.key("ada")))
    assert allows(pair, target, "training_run")
    world.erase(enrolled.seq)
    pair.sync()
    pair.store.erase([enrolled.seq])
    assert not allows(pair, target, "training_run")
    assert allows(pair, kept, "package")
    assert pair.store.check_derived() == []


def test_the_rules_survive_a_copy_into_an_empty_ledger(pair: Pair) -> None:
    target = pair.workload("train", 10, "training_run")
    pair.step(lambda: enrol_workload(pair.world.workspace, target, pair.world.key("ada")))
    source = pair.world.workspace.ledger.store
    with postgres_ledger(pair.origin) as place:
        copy = place.open()
        copy.load(source.entries(0, source.size()), source.payloads(0, source.size()), [])
        table = "SELECT * FROM writer ORDER BY key_id"
        assert place.sql(table) == pair.place.sql(table) != []


def test_append_refuses_and_says_what_to_do(pair: Pair) -> None:
    target = pair.workload("train", 11, "training_run")
    pair.step(lambda: enrol_workload(pair.world.workspace, target, pair.world.key("ada")))
    writer = Writer("workload/train", bytes([11]) * 32)

    def sealed(kind: str, key: Writer | None) -> SealedBody:
        draft = Draft(
            kind=kind, schema=1, subjects=("model/x",), actor="workload/train", idem=hashlib.sha256(kind.encode()).hexdigest(), payload=b"{}",
            facts_digest="00" * 32, key_id=key.key_id if key else "", sign=key.sign if key else None,
        )  # fmt: skip
        return seal_body(pair.origin, draft)

    now, size = 2**51, pair.store.size()
    with pytest.raises(WriterRefused, match="workload/train may not write package entries"):
        pair.store.append(sealed("package", writer), now, None)
    with pytest.raises(WriterRefused, match="not signed by a workload"):
        pair.store.append_many([sealed("training_run", None)], now)
    for number, kind in enumerate(sorted(PERSON_SIGNED)):  # these count through the signatures inside alone
        assert pair.store.append(sealed(kind, None), now, size + number).seq == size + number
    size = pair.store.size()
    unknown = Writer("workload/x", b"\x0c" * 32)
    refused, kept = pair.store.append_each([sealed("training_run", unknown), sealed("training_run", writer)], now)
    assert isinstance(refused, WriterRefused)
    assert "enrol it first" in str(refused)
    assert (kept.seq, pair.store.size()) == (size, size + 1)  # type: ignore[union-attr]


def test_a_ledger_that_nobody_founded_has_no_such_rules() -> None:
    with postgres_ledger("test.example/credit") as place:
        store: PostgresStore = place.open()
        draft = Draft(
            kind="note", schema=1, subjects=("model/x",), actor="workload/x", idem="ef" * 32,
            payload=json.dumps({}).encode(), facts_digest="00" * 32,
        )  # fmt: skip
        assert store.append(seal_body(store.origin, draft), 1, None).seq == 0
