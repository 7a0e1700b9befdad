"""Postgres' append() and the governance room agree on who may write what, act by act; where they differ is shown too.

A real workspace on SQLite is copied entry by entry into Postgres through append(). After each one every key is asked for
every kind: governance judges a signed entry that might come next, Postgres judges key and kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.governance import PersonalKey, enrol_workload, revoke_key
from cognify_dagster.governance.enrol import _UNSIGNED
from cognify_dagster.governance.keys import public_key
from cognify_dagster.governance.people import directory
from cognify_dagster.governance.statements import sign_act
from cognify_dagster.ledger import Draft, Entry, canonical_json
from cognify_dagster.ledger.entry import NO_PREVIOUS, SealedBody, assemble, seal_body
from cognify_dagster.ledger.postgres.store import PostgresStore, WriterRefused
from cognify_dagster.records import KeyRevoked, PersonEnrolled, Record, Workload, WorkloadEnrolled
from cognify_dagster.workspace import Writer
from tests.conformance.postgres_server import NewLedger, postgres_ledger
from tests.governance.world import World, make_world

pytestmark = pytest.mark.postgres
KINDS = ("training_run", "package", "genesis", "person_enrolled", "workload_enrolled", "key_revoked", "unheard_of")


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
            WorkloadEnrolled(workload=workload, enrolled_by=changed.pop("claimed", by.person), envelope=_UNSIGNED),
            by,
            **changed,
        )

    def raw(self, kind: str, subjects: tuple[str, ...], facts: Any) -> None:
        """An entry of any content, past the records room."""
        payload = canonical_json({"facts": facts, "observed": {}})
        import hashlib

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

    def compare(self) -> dict[tuple[str, str], bool]:
        """Ask both for each key and kind; return what is allowed."""
        people = directory(self.world.workspace.read())
        size = self.store.size()
        allowed = {}
        said_all = {
            (key, kind): text
            for key, kind, text in self.place.sql(
                f"SELECT k, v, ledger_writer_problem({size}, v, k) FROM unnest('{{{','.join(key for key in self.keys if key)}}}'::text[] || ARRAY['']) AS k, "
                f"unnest('{{{','.join(KINDS)}}}'::text[]) AS v"
            )
        }
        for key_id, private in self.keys.items():
            for kind in KINDS:
                draft = Draft(
                    kind=kind, schema=1, subjects=("model/x",), actor="workload/x", idem="cd" * 32, payload=b"{}",
                    facts_digest="00" * 32, key_id=key_id, sign=private.sign if private else None,
                )  # fmt: skip
                data = assemble(self.origin, seal_body(self.origin, draft).body, {"model/x": -1}, NO_PREVIOUS, size, 1)
                problem = people.writer_problem(Entry.parse(data))
                said = said_all[key_id, kind]
                if kind in ("person_enrolled", "workload_enrolled", "key_revoked"):
                    said = None  # append() does not ask for these, as governance does not
                assert (said is None) == (problem is None), (key_id, kind, problem, said)
                allowed[key_id, kind] = problem is None
        return allowed

    def step(self, act: Callable[[], object]) -> dict[tuple[str, str], bool]:
        act()
        self.sync()
        return self.compare()


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
    pair.step(lambda: revoke_key(ws, "workload/train", first.key.key_id, "lost", ada))
    assert not allows(pair, first, "package")
    pair.step(lambda: pair.world.write(pair.enrolment(first, ada)))
    assert not allows(pair, first, "training_run")
    second = pair.workload("train", 2, "training_run", "package")
    pair.step(lambda: enrol_workload(ws, second, ada))
    assert allows(pair, second, "package")


def test_acts_without_effect_have_none_in_either(pair: Pair) -> None:
    ada, vera, finn = (pair.world.key(name) for name in ("ada", "vera", "finn"))
    write = pair.world.write
    target = pair.workload("train", 3, "training_run")
    stranger = PersonalKey("person/nobody", Ed25519PrivateKey.from_private_bytes(b"\x08" * 32))
    good = pair.enrolment(target, ada)
    assert isinstance(good, WorkloadEnrolled)
    ada_as_workload = target.model_copy(update={"key": ada.public})
    false_id = target.model_copy(update={"key": target.key.model_copy(update={"key_id": "0123456789abcdef"})})
    without = {
        "no admin": pair.enrolment(target, vera),
        "somebody else is named": pair.enrolment(target, vera, claimed="person/ada"),
        "a stranger": pair.enrolment(target, stranger),
        "another ledger": pair.enrolment(target, ada, ledger="test.example/other"),
        "a person's key": pair.enrolment(ada_as_workload, finn),
        "an id of another key": pair.enrolment(false_id, ada),
        "signed for other kinds": good.model_copy(
            update={"workload": target.model_copy(update={"kinds": ("package",)})}
        ),
        "no signature": good.model_copy(update={"envelope": good.envelope.model_copy(update={"signatures": ()})}),
        "another payload type": good.model_copy(
            update={"envelope": good.envelope.model_copy(update={"payloadType": "text/plain"})}
        ),
    }
    before = pair.compare()
    for name, record in without.items():
        assert pair.step(lambda record=record: write(record)) == before, name  # type: ignore[misc]
    after = pair.step(lambda: write(good))
    assert after != before
    revoked = KeyRevoked(
        holder="workload/train", key_id=target.key.key_id, reason="x", revoked_by="person/vera", envelope=_UNSIGNED
    )
    assert pair.step(lambda: write(pair.signed(revoked, vera))) == after
    pair.step(lambda: revoke_key(pair.world.workspace, "workload/train", target.key.key_id, "x", ada))
    assert pair.step(lambda: write(good)) == before  # the same statement has no second effect


def test_an_admin_who_lost_the_role_or_the_key_enrols_nobody(pair: Pair) -> None:
    world, ada, finn = pair.world, pair.world.key("ada"), pair.world.key("finn")
    target = pair.workload("train", 4, "training_run")
    now = directory(world.workspace.read()).person_at("person/finn", 2**40)
    assert now is not None
    demoted = now.model_copy(update={"roles": ()})  # takes something away, so that one admin suffices
    record = PersonEnrolled(person=demoted, vouched_by="person/ada", envelope=_UNSIGNED)
    pair.step(lambda: world.write(pair.signed(record, ada)))
    pair.step(lambda: world.write(pair.enrolment(target, finn)))
    assert not allows(pair, target, "training_run")
    pair.step(lambda: revoke_key(world.workspace, "person/ada", ada.key_id, "lost", ada))
    pair.step(lambda: world.write(pair.enrolment(target, ada)))
    assert not allows(pair, target, "training_run")


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("key_revoked", {"holder": "workload/train"}),
        ("key_revoked", {"nothing": 1}),
        ("key_revoked", []),
        ("workload_enrolled", {"workload": {"workload": "workload/train", "key": 1, "kinds": []}}),
        ("person_enrolled", {"person": None}),
    ],
)
def test_an_unreadable_act_ends_the_keys_of_whom_it_was_about(pair: Pair, kind: str, facts: Any) -> None:
    target = pair.workload("train", 5, "training_run")
    pair.step(lambda: enrol_workload(pair.world.workspace, target, pair.world.key("ada")))
    pair.step(lambda: pair.raw(kind, ("people", "workload/other"), facts))
    pair.step(lambda: pair.raw(kind, ("workload/train",), facts))  # not in the history of people
    assert allows(pair, target, "training_run")
    pair.step(lambda: pair.raw(kind, ("people", "workload/train"), facts))
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
    assert pair.place.sql(f"SELECT details FROM act WHERE seq = {enrolled.seq}") == [(None,)]


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
            kind=kind, schema=1, subjects=("model/x",), actor="workload/train", idem="ef" * 32, payload=b"{}",
            facts_digest="00" * 32, key_id=key.key_id if key else "", sign=key.sign if key else None,
        )  # fmt: skip
        return seal_body(pair.origin, draft)

    now, size = 2**51, pair.store.size()
    with pytest.raises(WriterRefused, match="workload/train may not write package entries"):
        pair.store.append(sealed("package", writer), now, None)
    with pytest.raises(WriterRefused, match="not signed by a workload"):
        pair.store.append_many([sealed("training_run", None)], now)
    unknown = Writer("workload/x", b"\x0c" * 32)
    refused, kept = pair.store.append_each([sealed("training_run", unknown), sealed("training_run", writer)], now)
    assert isinstance(refused, WriterRefused)
    assert "enrol it first" in str(refused)
    assert (kept.seq, pair.store.size()) == (size, size + 1)  # type: ignore[union-attr]


def test_postgres_cannot_check_signature_bytes_and_governance_still_judges(pair: Pair) -> None:
    """The one difference: a forged act has its effect in Postgres' table. Governance ignores it and reports it."""
    target = pair.workload("train", 12, "training_run")
    good = pair.enrolment(target, pair.world.key("ada"))
    assert isinstance(good, WorkloadEnrolled)
    forged = good.envelope.signatures[0].model_copy(update={"sig": "A" * 86 + "=="})
    pair.world.write(good.model_copy(update={"envelope": good.envelope.model_copy(update={"signatures": (forged,)})}))
    pair.sync()
    people = directory(pair.world.workspace.read())
    assert people.problems[-1][1] == "the signature does not verify"
    assert people.key_at("workload/train", target.key.key_id, 2**40) is None
    assert pair.place.sql(f"SELECT kinds FROM writer WHERE key_id = '{target.key.key_id}'") == [(["training_run"],)]


def test_a_ledger_that_nobody_founded_has_no_such_rules() -> None:
    with postgres_ledger("test.example/credit") as place:
        store: PostgresStore = place.open()
        draft = Draft(
            kind="note", schema=1, subjects=("model/x",), actor="workload/x", idem="ef" * 32,
            payload=json.dumps({}).encode(), facts_digest="00" * 32,
        )  # fmt: skip
        assert store.append(seal_body(store.origin, draft), 1, None).seq == 0
