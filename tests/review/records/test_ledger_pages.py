"""The ledger's pages: what they show was verified, filters find what they say, proofs check apart from the site."""

from __future__ import annotations

import base64
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.governance import directory
from cognify_dagster.ledger import (
    Checkpoint,
    Entry,
    ProofFile,
    VerifiedView,
    open_checkpoint,
    read_secret,
    sign_note,
    verify_consistency,
)
from cognify_dagster.records import Evaluation, EvidenceItem, SignOff
from cognify_dagster.review.access import verification
from cognify_dagster.review.access.browsing import Filters, browse, last_before
from cognify_dagster.review.access.verification import MEANINGS, AnchoredHead, standing
from cognify_dagster.review.identity.user import User, user_of
from cognify_dagster.workspace.workspace import log_keys
from tests.governance.world import MODEL
from tests.review.site_world import Client, SiteWorld


@pytest.fixture
def vera(site: SiteWorld) -> Client:
    return site.client_for("vera")


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r'<th scope="row"><a href="/ledger/entries/(\d+)"', text)]


def user(site: SiteWorld, **changes: object) -> User:
    found = user_of(site.site.read(), site.account("vera"), site.site.now())
    assert found is not None
    return User(**{**found.__dict__, **changes})  # type: ignore[arg-type]


# --- finding entries ---------------------------------------------------------------------------------------------------


def test_entries_come_newest_first_and_every_one_once(site: SiteWorld, vera: Client) -> None:
    seen: list[int] = []
    path = "/ledger"
    while path:
        text = vera.get(path).text
        seen += numbers(text)
        found = re.search(r'<p class="pages"><a href="([^"]+)"', text)
        path = found[1].replace("&amp;", "&") if found else ""
    assert seen == list(range(site.site.read().size - 1, -1, -1))


def test_filters_by_kind_subject_and_person(site: SiteWorld, vera: Client) -> None:
    reading = site.site.read()
    signed = [item.seq for item in reading.all(SignOff)]
    assert numbers(vera.get("/ledger?kind=sign_off").text) == signed[::-1]
    about = [item.entry.seq for item in reading.view.history(f"model/{MODEL}@1")]
    assert numbers(vera.get(f"/ledger?subject=model/{MODEL}@1").text) == about[::-1]
    hers = [item.entry.seq for item in reading.view.history("person/vera")]
    assert numbers(vera.get("/ledger?person=vera").text) == hers[::-1]
    assert numbers(vera.get("/ledger?person=vera&kind=sign_off").text) == [seq for seq in signed if seq in hers]
    assert "No entry fits" in vera.get("/ledger?subject=model/nothing").text


def test_filters_by_time(site: SiteWorld) -> None:
    reading = site.site.read()
    times = [item.entry.time_us for item in reading.view.entries]
    for place in (0, 3, len(times) - 1):
        assert last_before(reading, times[place]) == sum(time < times[place] for time in times) - 1
    found = browse(reading, user(site), Filters(since_us=times[3], until_us=times[8]))
    assert [item.entry.seq for item in found.items] == [
        seq for seq in range(len(times) - 1, -1, -1) if times[3] <= times[seq] < times[8]
    ]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("kind=nonsense", "no kind of entry"),
        ("subject=a%20b", "A subject looks like"),
        ("since=tomorrow", "A day looks like"),
        ("until=9999-12-31", "A day looks like"),
        ("person=vera&subject=people", "either a subject or a person"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_named(vera: Client, query: str, told: str) -> None:
    answer = vera.get(f"/ledger?{query}")
    assert answer.status_code == 200
    assert told in answer.text
    assert vera.get("/ledger?from=x").status_code == 400


def test_htmx_gets_the_rows_alone(vera: Client) -> None:
    text = vera.get("/ledger?kind=sign_off", headers={"HX-Request": "true"}).text
    assert "<html" not in text
    assert 'id="found"' in text


def test_no_request_looks_at_more_than_its_share(site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cognify_dagster.review.access.browsing.LOOK", 2)
    found = browse(site.site.read(), user(site), Filters(subject="people", kind="sign_off"))
    assert found.stopped
    assert found.next is not None
    seen: list[int] = []
    start: int | None = None
    while True:
        page = browse(
            site.site.read(),
            user(site),
            Filters(kind="genesis", subject=site.site.read().genesis.entry.entry.subjects[0]),
            start,
        )
        seen += [item.entry.seq for item in page.items]
        if page.next is None:
            break
        start = page.next
    assert seen == [0]


def test_an_auditor_of_another_model_sees_no_entry_about_this_one(site: SiteWorld) -> None:
    visitor = user(site, person=None, models=frozenset({"other"}))
    shown = {item.entry.seq for item in browse(site.site.read(), visitor, Filters(), limit=1000).items}
    for item in site.site.read().view.entries:
        about = any(subject.startswith(("model/", "dataset/", "oversight/")) for subject in item.entry.subjects)
        assert (item.entry.seq in shown) == (not about)
    mine = user(site, person=None, models=frozenset({MODEL}))
    seen = {item.entry.kind for item in browse(site.site.read(), mine, Filters(), limit=1000).items}
    assert {"training_run", "dataset_snapshot", "sign_off"} <= seen
    claims = browse(site.site.read(), mine, Filters(subject="dataset/claims"))
    assert not claims.items  # its own model does not use them


# --- how far it is proven ----------------------------------------------------------------------------------------------


def test_the_page_says_the_level_and_what_it_does_not_prove(site: SiteWorld, vera: Client) -> None:
    text = vera.get("/ledger").text
    found = standing(site.site, site.site.read())
    assert found.level == "L1"
    assert MEANINGS["L1"][1] in text
    assert found.covered <= found.size == site.site.read().size
    assert f"covers {found.covered} entries" in text
    assert ("covered by no signed head yet" in text) == bool(found.uncovered)


def test_a_head_that_contradicts_the_entries_is_said(site: SiteWorld) -> None:
    workspace = site.world.workspace
    reading = site.site.read()
    fake = Checkpoint(reading.origin, 3, b"\x07" * 32)
    secret = Ed25519PrivateKey.from_private_bytes(read_secret(log_keys(workspace.config)[0]))
    note = sign_note(fake.text(), reading.origin, secret)
    state = verification._judge(site.site, reading, [(3, note)])
    assert state.level == "none"
    assert "not a head of the entries" in state.problem


def test_an_anchor_with_a_time_carries_l3_only_for_the_very_same_head(site: SiteWorld) -> None:
    reading, state, workspace = site.site.read(), site.site.state, site.world.workspace
    secret = Ed25519PrivateKey.from_private_bytes(read_secret(log_keys(workspace.config)[0]))

    def anchored(place: str, root: bytes) -> tuple[AnchoredHead, ...]:
        note = sign_note(Checkpoint(reading.origin, 4, root).text(), reading.origin, secret)
        return (AnchoredHead(note, "2026-01-01T00:00:00Z", place),)

    try:
        state["ledger-anchored"] = anchored("wrong", b"\x01" * 32)
        assert standing(site.site, reading).level == "L1"
        state["ledger-anchored"] = anchored("vault", workspace.ledger.root(4))
        found = standing(site.site, reading)
        assert (found.level, found.covered, found.anchored_at) == ("L3", 4, "2026-01-01T00:00:00Z")
    finally:
        del state["ledger-anchored"]


# --- one entry -----------------------------------------------------------------------------------------------------------


def test_an_entry_shows_its_content_heads_and_leaf(site: SiteWorld, vera: Client) -> None:
    reading = site.site.read()
    item = reading.all(SignOff)[0]
    text = vera.get(f"/ledger/entries/{item.seq}").text
    assert item.leaf[:8] in text
    assert "statement_digest" in text
    before = item.entry.entry.heads[f"model/{MODEL}@1"]
    assert f'href="/ledger/entries/{before}"' in text
    for path in ("/ledger/entries/999999", "/ledger/entries/x", "/ledger/entries/-1", "/ledger/entries/999999/proof"):
        assert vera.get(path).status_code in (400, 404)


def test_the_proof_checks_apart_from_the_site_with_the_entrys_bytes(site: SiteWorld, vera: Client) -> None:
    reading = site.site.read()
    seq = reading.all(SignOff)[-1].seq
    proof = ProofFile.parse(vera.get(f"/ledger/entries/{seq}/proof").text)
    data = vera.get(f"/ledger/entries/{seq}/bytes").content
    entry = Entry.parse(data)
    head = proof.verify(entry.leaf, site.world.workspace.trust().logs)
    assert (entry.seq, proof.index) == (seq, seq)
    assert head.origin == reading.origin


def test_an_entry_that_no_signed_head_covers_has_no_proof_yet(site: SiteWorld, vera: Client) -> None:
    last = site.world.write(naming(site, site.site.read().all(Evaluation)[0].record.artefacts))
    answer = vera.get(f"/ledger/entries/{last}/proof")
    assert answer.status_code == 409
    assert "No signed head covers" in answer.text


def test_checkpoints_and_the_proof_between_two_of_them(site: SiteWorld, vera: Client) -> None:
    logs = site.world.workspace.trust().logs
    newest = open_checkpoint(vera.get("/ledger/checkpoint").text, logs)
    sizes = [int(found) for found in re.findall(r"checkpoint-(\d+)\.txt", vera.get("/ledger/checkpoints").text)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == newest.size
    old = open_checkpoint(vera.get(f"/ledger/checkpoint?size={sizes[-1]}").text, logs)
    lines = vera.get(f"/ledger/consistency?from={old.size}&to={newest.size}").text.splitlines()
    assert lines[2].split()[2] == base64.b64encode(old.root).decode()
    path = [base64.b64decode(line) for line in lines[4:]]
    verify_consistency(old.size, newest.size, old.root, newest.root, path)
    assert vera.get("/ledger/consistency?from=9&to=3").status_code == 400
    assert vera.get("/ledger/checkpoint?size=999999").status_code == 404


# --- evidence --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sealed(site: SiteWorld) -> tuple[int, str]:
    """An evaluation that names a personal blob."""
    workspace = site.world.workspace
    item = workspace.put("examples.json", b'[{"name": "Zoe"}]', "application/json", "personal")
    return site.world.write(naming(site, (item,))), item.digest


def naming(site: SiteWorld, items: tuple[EvidenceItem, ...]) -> Evaluation:
    """An evaluation that names blobs."""
    first = site.site.read().all(Evaluation)[0].record
    return first.model_copy(update={"artefacts": items})


def test_evidence_is_open_by_its_class(site: SiteWorld, sealed: tuple[int, str]) -> None:
    seq, digest = sealed
    path = f"/ledger/entries/{seq}/evidence/{digest}"
    answer = site.client_for("vera").get(path)
    assert answer.content == b'[{"name": "Zoe"}]'
    assert answer.headers["content-disposition"] == 'attachment; filename="examples.json"'
    site.world.enrol("nora")  # no role
    assert site.client_for("nora").get(path).status_code == 403
    assert "not open to you" in site.client_for("nora").get(f"/ledger/entries/{seq}").text


def test_evidence_is_given_only_through_an_entry_that_names_it(site: SiteWorld, sealed: tuple[int, str]) -> None:
    _, digest = sealed
    vera = site.client_for("vera")
    assert vera.get(f"/ledger/entries/0/evidence/{digest}").status_code == 404
    for bad in ("sha256:" + "0" * 64, "..%2f..%2fetc%2fpasswd", "x"):
        assert vera.get(f"/ledger/entries/{sealed[0]}/evidence/{bad}").status_code == 404


def test_evidence_that_was_damaged_is_not_given(site: SiteWorld, vera: Client) -> None:
    workspace = site.world.workspace
    item = workspace.put("odd.json", b'{"odd": 1}', "application/json")
    seq = site.world.write(naming(site, (item,)))
    (blob,) = [path for path in workspace.home.rglob(f"*{item.digest[-40:]}*") if path.is_file()]
    blob.chmod(0o600)
    blob.write_bytes(b'{"odd": 2}')
    assert vera.get(f"/ledger/entries/{seq}/evidence/{item.digest}").status_code == 410


def test_nobody_signed_out_reads_anything(site: SiteWorld) -> None:
    for path in (
        "/ledger",
        "/ledger/entries/0",
        "/ledger/entries/0/proof",
        "/ledger/checkpoint",
        "/policy",
        "/datasets",
    ):
        assert site.client().get(path).headers["location"].startswith("/login")


def test_people_are_named_as_the_ledger_knows_them(site: SiteWorld, vera: Client) -> None:
    assert directory(site.site.read()).name("person/vera") == "Vera"
    assert "<td>Vera</td>" in vera.get("/ledger?kind=sign_off").text


def test_the_numbers_of_a_kind_are_the_same_with_and_without_an_index(site: SiteWorld) -> None:
    view = site.site.read().view
    for kind in {item.entry.kind for item in view.entries}:
        assert list(view.seqs_of_kind(kind)) == list(VerifiedView.seqs_of_kind(view, kind))
