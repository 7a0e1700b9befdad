"""Archive folders: what is written reads back byte for byte; whatever is changed, missing, reordered or foreign is refused."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import LedgerError, LedgerFull, LedgerUnreadable, SqliteStore, Tampered, canonical_json, pae
from cognify_dagster.ledger.archive import export as export_module
from cognify_dagster.ledger.archive.detaching import ArchivedStore, due_segments, minimum_index
from cognify_dagster.ledger.archive.format import MANIFEST, PAYLOAD_TYPE
from cognify_dagster.ledger.archive.reader import open_archive
from cognify_dagster.ledger.merkle import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from cognify_dagster.ledger.store import Store, StoredPayload, TombstoneStore
from tests.ledger.archive_world import (
    KEY_ID,
    ORIGIN,
    WORKLOAD,
    attach,
    checkpoint,
    detach,
    erase,
    export,
    fill,
    leaves,
    log_key,
    note_archived,
    opened,
    record,
)
from tests.ledger.memory_store import MemoryStore

SIZE = 600


def make(kind: str, folder: Path, size: int = SIZE) -> Any:
    store: Any = MemoryStore(ORIGIN) if kind == "memory" else SqliteStore.create(folder / "l.sqlite", ORIGIN)
    fill(store, size)
    return store


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryStore, Path]:
    """A ledger of 600 entries, one erased, and its second segment of 256 in a folder."""
    store = MemoryStore(ORIGIN)
    fill(store, SIZE)
    erase(store, 300)
    checkpoint(store, 590)
    folder = tmp_path_factory.mktemp("archives") / "segment"
    export(store, folder, 256, 512)
    return store, folder


@pytest.fixture
def copied(archived: tuple[MemoryStore, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(archived[1], tmp_path / "segment"))


# --- writing and reading ---


def test_an_archive_is_a_static_tlog_tiles_folder(archived: tuple[MemoryStore, Path]) -> None:
    store, folder = archived
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["checkpoint", MANIFEST, "payloads/001", "tile/0/001", "tile/1/000.p/2", "tile/entries/001"]
    assert (folder / "tile/0/001").read_bytes() == b"".join(store.leaves[256:512])
    bundle = (folder / "tile/entries/001").read_bytes()
    first = store.rows[256]
    assert first is not None
    assert bundle[: 2 + len(first.data)] == len(first.data).to_bytes(2, "big") + first.data
    statement = json.loads(base64.b64decode(json.loads((folder / MANIFEST).read_bytes())["payload"]))
    assert statement["predicateType"] == "urn:cognify:predicate:ledger-archive:v1"
    assert [item["name"] for item in statement["subject"]] == [
        "checkpoint", "tile/0/001", "tile/1/000.p/2", "tile/entries/001",
    ]  # fmt: skip
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in [folder, *folder.rglob("*")] if path.is_file() or path == folder
    )


def test_rows_read_back_as_they_were(archived: tuple[MemoryStore, Path]) -> None:
    store, folder = archived
    archive = opened(folder)
    assert (archive.start, archive.end, archive.checkpoint.size if archive.checkpoint else 0) == (256, 512, 590)
    assert list(archive.entries(256, 512)) == list(store.entries(256, 512))
    assert list(archive.payloads(256, 512)) == list(store.payloads(256, 512))
    assert list(archive.entries(300, 302)) == list(store.entries(300, 302))
    assert archive.absent == {300}
    assert archive.prev == store.leaves[255].hex()
    assert archive.last_leaf == store.leaves[511].hex()
    with pytest.raises(LedgerUnreadable, match="holds entries 256"):
        list(archive.entries(0, 300))


def test_equal_contents_give_an_equal_manifest(archived: tuple[MemoryStore, Path], tmp_path: Path) -> None:
    store, folder = archived
    again = export(store, tmp_path / "again", 256, 512)
    assert again.manifest == opened(folder).manifest


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 600), st.integers(0, 2), st.booleans())
def test_any_stretch_of_any_size_roundtrips(
    tmp_path_factory: pytest.TempPathFactory, size: int, part: int, signed: bool
) -> None:
    start = min(part * 256, (size - 1) // 256 * 256)
    store = MemoryStore(ORIGIN)
    fill(store, size)
    if signed:
        checkpoint(store)
    archive = export(store, tmp_path_factory.mktemp("a") / "x", start, size, need_checkpoint=False)
    assert list(archive.entries(start, size)) == list(store.entries(start, size))
    assert list(archive.payloads(start, size)) == list(store.payloads(start, size))
    assert (archive.checkpoint is not None) == signed


def test_only_whole_tiles_of_the_ledger_are_archived(archived: tuple[MemoryStore, Path], tmp_path: Path) -> None:
    store, folder = archived
    for start, end in ((1, 256), (256, 256), (512, 900), (-256, 256)):
        with pytest.raises(LedgerError, match="cannot be archived"):
            export(store, tmp_path / "x", start, end)
    with pytest.raises(LedgerError, match="never overwritten"):
        export(store, folder, 256, 512)
    with pytest.raises(LedgerError, match="no checkpoint covers"):
        export(store, tmp_path / "x", 512, 600)
    assert list(tmp_path.iterdir()) == []


def _bit(data: bytes, at: int = 40) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("what", ["data", "leaf", "kind", "subjects", "payload", "missing", "unaccounted"])
def test_a_damaged_ledger_is_not_archived(tmp_path: Path, what: str) -> None:
    store = make("memory", tmp_path)
    checkpoint(store)
    row, paid = store.rows[5], store.paid[5]
    if what == "data":
        store.rows[5] = row._replace(data=store.rows[6].data)
    elif what == "payload":
        store.paid[5] = paid._replace(data=paid.data.replace(b"facts", b"fakts"))
    elif what == "missing":
        del store.rows[5]
    elif what == "unaccounted":
        store.paid[5] = StoredPayload(5, None, None, None)
    else:
        wrong = {"leaf": b"x" * 32, "kind": "evaluation", "subjects": ("model/other",)}[what]
        store.rows[5] = row._replace(**{what: wrong})
    with pytest.raises(Tampered):
        export(store, tmp_path / "x", 0, 256)
    assert not (tmp_path / "x").exists()


def test_a_checkpoint_that_does_not_fit_is_not_archived(tmp_path: Path) -> None:
    store = make("memory", tmp_path)
    other = MemoryStore(ORIGIN)
    fill(other, 100)
    record(other, "evaluation", {"n": 1})
    fill(other, 601)
    store.notes = [(600, checkpoint(other, 600))]
    with pytest.raises(Tampered, match="do not fit the checkpoint of size 600"):
        export(store, tmp_path / "x", 0, 256)
    store.notes = [(600, "forged")]
    with pytest.raises(Tampered, match="stored checkpoint of size 600"):
        export(store, tmp_path / "x", 0, 256)


# --- attack 42: missing, reordered, foreign, edited ---


def _swap_entries(folder: Path) -> None:
    path = folder / "tile/entries/001"
    data = path.read_bytes()
    one = 2 + int.from_bytes(data[:2], "big")
    two = one + 2 + int.from_bytes(data[one : one + 2], "big")
    path.write_bytes(data[one:two] + data[:one] + data[two:])


def _flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(_bit((folder / name).read_bytes()))

    return change


def _remove(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()

    return change


def _link(folder: Path) -> None:
    (folder / "tile/0/001").rename(folder.parent / "elsewhere")
    (folder / "tile/0/001").symlink_to(folder.parent / "elsewhere")


def _cut(folder: Path) -> None:
    (folder / "payloads/001").write_bytes((folder / "payloads/001").read_bytes()[:-1])


FILES = ("checkpoint", MANIFEST, "payloads/001", "tile/0/001", "tile/1/000.p/2", "tile/entries/001")


@pytest.mark.parametrize(
    "change",
    [_swap_entries, _link, _cut, *(_flip(name) for name in FILES), *(_remove(name) for name in FILES)],
)
def test_every_change_of_a_file_is_found(copied: Path, change: Callable[[Path], None]) -> None:
    change(copied)
    with pytest.raises((Tampered, LedgerUnreadable)) as caught:
        opened(copied)
    assert str(copied) in str(caught.value) or "entry" in str(caught.value)


def _statement(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.b64decode(json.loads((folder / MANIFEST).read_bytes())["payload"]))
    return value


def _resign(folder: Path, statement: dict[str, Any], key: Ed25519PrivateKey = WORKLOAD, keyid: str = KEY_ID) -> None:
    """What a thief of the workload key can do."""
    body = canonical_json(statement)
    envelope = {
        "payload": base64.b64encode(body).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": keyid, "sig": base64.b64encode(key.sign(pae(PAYLOAD_TYPE, body))).decode()}],
    }
    (folder / MANIFEST).write_bytes(canonical_json(envelope))


def test_an_edited_manifest_fails_its_signature(copied: Path) -> None:
    envelope = json.loads((copied / MANIFEST).read_bytes())
    statement = _statement(copied)
    statement["predicate"]["root"] = "0" * 64
    envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()
    (copied / MANIFEST).write_bytes(canonical_json(envelope))
    with pytest.raises(Tampered, match="signature does not verify"):
        opened(copied)


def test_only_keys_from_outside_count(copied: Path) -> None:
    other = Ed25519PrivateKey.generate()
    _resign(copied, _statement(copied), other)
    with pytest.raises(Tampered, match="signature does not verify"):
        opened(copied)
    _resign(copied, _statement(copied), other, "0" * 16)
    with pytest.raises(Tampered, match="none of those given"):
        opened(copied)
    with pytest.raises(Tampered, match="none of those given"):
        open_archive(copied, manifest_keys={}, log_keys=[log_key()])


@pytest.mark.parametrize("member", ["root", "start", "end", "ledger", "checkpoint", "files", "extra", "proof", "type"])
def test_a_thief_of_the_manifest_key_still_cannot_change_the_tree(copied: Path, member: str) -> None:
    statement = _statement(copied)
    predicate = statement["predicate"]
    if member == "files":
        statement["subject"] = statement["subject"][:-1]
    elif member == "extra":
        statement["subject"].append({"digest": {"sha256": "0" * 64}, "name": "../../etc/passwd"})
    elif member == "proof":
        predicate["checkpoint"]["proof"][0] = "0" * 64
    elif member == "type":
        statement["predicateType"] = "urn:cognify:predicate:sign-off:v1"
    else:
        predicate[member] = {"root": "0" * 64, "start": 0, "end": 600, "ledger": "other/ledger", "checkpoint": None}[
            member
        ]
    _resign(copied, statement)
    with pytest.raises((Tampered, LedgerUnreadable)):
        opened(copied)


def test_entries_rewritten_with_the_manifest_key_do_not_fit_the_logs_checkpoint(
    archived: tuple[MemoryStore, Path], tmp_path: Path
) -> None:
    forged = MemoryStore(ORIGIN)
    fill(forged, 300)
    record(forged, "evaluation", {"instead": True})
    fill(forged, SIZE)
    export(forged, tmp_path / "forged", 256, 512, need_checkpoint=False)  # internally consistent
    statement = _statement(tmp_path / "forged")
    genuine = _statement(archived[1])
    shutil.copy(archived[1] / "checkpoint", tmp_path / "forged/checkpoint")
    statement["predicate"]["checkpoint"] = genuine["predicate"]["checkpoint"]
    statement["subject"].insert(0, genuine["subject"][0])
    _resign(tmp_path / "forged", statement)
    with pytest.raises(Tampered, match="does not cover these entries"):
        opened(tmp_path / "forged")


def test_a_segment_of_another_ledger_is_refused(tmp_path: Path) -> None:
    other = MemoryStore("bank.example/other")
    fill(other, SIZE)
    checkpoint(other)
    archive = export(other, tmp_path / "other", 0, 256)
    with pytest.raises(Tampered, match=r"archive of 'bank\.example/other'"):
        opened(tmp_path / "other")
    store = make("memory", tmp_path)
    checkpoint(store)
    with pytest.raises(Tampered, match="not of"):
        detach(store, archive)
    with pytest.raises(Tampered, match="not of"):
        ArchivedStore(store, [archive])


def test_a_payload_moved_to_another_entry_is_found(copied: Path, archived: tuple[MemoryStore, Path]) -> None:
    store = archived[0]
    path = copied / "payloads/001"
    data = path.read_bytes()
    first, second = 69 + len(store.paid[256].data), 69 + len(store.paid[257].data)  # type: ignore[union-attr,arg-type]
    path.write_bytes(data[first : first + second] + data[:first] + data[first + second :])
    with pytest.raises(Tampered, match="not the one the entry commits to"):
        opened(copied)


def test_a_file_changed_after_verification_is_found_when_read(copied: Path) -> None:
    archive = opened(copied)
    archive._recent = ("", b"")
    _flip("tile/entries/001")(copied)
    with pytest.raises(Tampered, match="not the file that the manifest names"):
        list(archive.entries(256, 260))


# --- crash points ---


def test_a_killed_export_leaves_no_folder_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make("memory", tmp_path)
    checkpoint(store)
    real, calls = export_module.write_file, 0
    total = 1 + len(FILES) - 1

    class Killed(BaseException):
        pass

    for point in range(total):
        calls = 0

        def dying(path: Path, data: bytes, point: int = point) -> None:
            nonlocal calls
            if calls == point:
                path.write_bytes(data[: len(data) // 2])
                raise Killed
            calls += 1
            real(path, data)

        monkeypatch.setattr(export_module, "write_file", dying)
        monkeypatch.setattr(export_module.shutil, "rmtree", lambda *a, **k: None)  # a killed process cleans nothing up
        with pytest.raises(Killed):
            export(store, tmp_path / "x", 256, 512)
        monkeypatch.undo()
        assert not (tmp_path / "x").exists()
        assert list(export(store, tmp_path / "x", 256, 512).entries(256, 512)) == list(store.entries(256, 512))
        shutil.rmtree(tmp_path / "x")


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make("memory", tmp_path)
    checkpoint(store)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "write_file", full)
    with pytest.raises(LedgerFull, match="make room"):
        export(store, tmp_path / "x", 0, 256)
    assert list(tmp_path.iterdir()) == []


# --- detach, read, attach ---


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite" and not hasattr(SqliteStore, "detach"):
        pytest.fail("SqliteStore has no detach yet")
    store = make(request.param, tmp_path)
    erase(store, 7)
    checkpoint(store)
    return store


def test_segments_leave_from_the_front_and_come_back_from_the_back(ledger: Any, tmp_path: Path) -> None:
    before = (list(ledger.entries(0, 600)), list(ledger.payloads(0, 600)))
    assert due_segments(ledger, cut=256) == [(0, 256), (256, 512)]
    first, second = (export(ledger, tmp_path / f"{start}", start, end) for start, end in due_segments(ledger, cut=256))
    with pytest.raises(LedgerError, match="begins at entry 0"):
        detach(ledger, second)
    segment = detach(ledger, first)
    assert detach(ledger, first) == segment  # a repeated call changes nothing
    detach(ledger, second)
    assert ledger.segments() == [first.segment, second.segment]
    assert minimum_index(ledger) == 512
    assert due_segments(ledger, cut=256) == []
    with pytest.raises(LedgerUnreadable, match="archive"):
        list(ledger.entries(0, 600))
    with pytest.raises(LedgerUnreadable, match="archive"):
        list(ledger.payloads(511, 513))
    fill(ledger, 620)
    both = ArchivedStore(ledger, [second, first])
    assert (list(both.entries(0, 600)), list(both.payloads(0, 600))) == before
    assert leaves(both) == [row.leaf for row in both.entries(0, both.size())]
    with pytest.raises(LedgerError, match=r"256\.\.511, not 0\.\.255"):
        attach(ledger, first)
    attach(ledger, second)
    attach(ledger, first)
    assert ledger.segments() == []
    assert (list(ledger.entries(0, 600)), list(ledger.payloads(0, 600))) == before


def test_proofs_work_across_detached_segments(ledger: Any, tmp_path: Path) -> None:
    from cognify_dagster.ledger import merkle_root

    known = leaves(ledger)
    size = len(known)
    archives = []
    for start, end in due_segments(ledger, cut=256):
        archives.append(export(ledger, tmp_path / f"{start}", start, end))
        detach(ledger, archives[-1])
    root = merkle_root(known)
    for seq in (512, 555, size - 1):  # what the store holds is provable without the archives
        verify_inclusion(seq, size, known[seq], inclusion_proof(seq, size, ledger.node), root)
    verify_consistency(512, size, merkle_root(known[:512]), root, consistency_proof(512, size, ledger.node))
    both = ArchivedStore(ledger, archives)
    for seq in (0, 1, 255, 256, 300, 511):
        verify_inclusion(seq, size, known[seq], inclusion_proof(seq, size, both.node), root)
    verify_consistency(77, size, merkle_root(known[:77]), root, consistency_proof(77, size, both.node))
    for level in range(10):
        wanted = [(i, merkle_root(known[i << level : (i + 1) << level])) for i in range(size >> level)]
        assert list(both.nodes(level, 0, size >> level)) == wanted


def test_appending_goes_on_after_detaching(ledger: Any, tmp_path: Path) -> None:
    plain = MemoryStore(ORIGIN)
    plain.load(ledger.entries(0, ledger.size()), ledger.payloads(0, ledger.size()), ledger.checkpoints())
    archive = export(ledger, tmp_path / "0", 0, 512)
    detach(ledger, archive)
    note_archived(plain)(archive)
    fill(ledger, 640)
    fill(plain, 640)
    assert [row.data for row in ledger.entries(512, 640)] == [row.data for row in plain.entries(512, 640)]
    receipt = ledger.find(plain.rows[3].idem)  # type: ignore[union-attr]
    assert (receipt.seq, receipt.leaf) == (3, plain.leaves[3])


def test_without_its_archive_a_segment_is_named_in_the_error(ledger: Any, tmp_path: Path) -> None:
    archive = export(ledger, tmp_path / "0", 0, 256)
    detach(ledger, archive)
    with pytest.raises(LedgerUnreadable, match=r"entries 0\.\.255 were moved into an archive.*give its folder"):
        list(ArchivedStore(ledger, []).entries(0, 10))
    assert len(list(ArchivedStore(ledger, []).entries(256, 600))) == 344


def test_the_newest_entry_and_uncovered_ones_stay(ledger: Any, tmp_path: Path) -> None:
    store = MemoryStore(ORIGIN)
    fill(store, 512)
    checkpoint(store)
    archive = export(store, tmp_path / "all", 0, 512)
    with pytest.raises(LedgerError, match="before the newest entry"):
        detach(store, archive)
    fill(store, 520)
    unsigned = export(store, tmp_path / "part", 0, 520, need_checkpoint=False)
    with pytest.raises(LedgerError, match="cannot be detached"):
        detach(store, unsigned)
    store.notes = []
    bare = export(store, tmp_path / "bare", 0, 256, need_checkpoint=False)
    with pytest.raises(LedgerError, match="no signed checkpoint covers it"):
        detach(store, bare)


def test_a_kill_between_the_entry_and_the_detachment_is_resumed(ledger: Any, tmp_path: Path) -> None:
    archive = export(ledger, tmp_path / "0", 0, 256)
    note_archived(ledger)(archive)  # then the process was killed
    size = ledger.size()
    detach(ledger, opened(tmp_path / "0"))
    assert ledger.size() == size
    assert ledger.segments() == [archive.segment]


def test_another_archive_of_the_same_stretch_is_not_restored(ledger: Any, tmp_path: Path) -> None:
    archive = export(ledger, tmp_path / "0", 0, 256)
    checkpoint(ledger, 300)  # a smaller head: the manifest differs
    other = export(ledger, tmp_path / "other", 0, 256)
    assert other.manifest != archive.manifest
    detach(ledger, archive)
    with pytest.raises(Tampered, match="manifest differs"):
        attach(ledger, other)
    with pytest.raises(Tampered, match="manifest differs"):
        ArchivedStore(ledger, [other])


def test_what_was_erased_while_detached_does_not_come_back(ledger: Any, tmp_path: Path) -> None:
    archive = export(ledger, tmp_path / "0", 0, 256)
    detach(ledger, archive)
    both: Store = ArchivedStore(ledger, [archive])
    record(both, "payload_erased", {"seq": 20, "seqs": [20, 21], "basis": "Art. 17"})
    both.erase([20])  # 21 stayed in a copy of the archive that nobody reached
    if isinstance(ledger, TombstoneStore):  # what the database keeps of it is forgotten too
        assert [stone.facts_digest is None for stone in ledger.tombstones(20, 22)] == [True, False]
    assert b'"n":20,' not in (tmp_path / "0/payloads/000").read_bytes()
    again = opened(tmp_path / "0")
    assert again.manifest == archive.manifest
    assert again.absent == {7, 20}
    attach(ledger, again)
    gone = [row.seq for row in ledger.payloads(0, 256) if row.data is None]
    assert gone == [7, 20, 21]


def test_a_payload_that_vanished_from_an_archive_stops_the_restore(ledger: Any, tmp_path: Path) -> None:
    archive = export(ledger, tmp_path / "0", 0, 256)
    detach(ledger, archive)
    archive.erase([30])
    with pytest.raises(Tampered, match="entry 30 is missing"):
        attach(ledger, opened(tmp_path / "0"))


def test_an_erasure_after_the_export_asks_for_a_new_archive(ledger: Any, tmp_path: Path) -> None:
    archive = export(ledger, tmp_path / "0", 0, 256)
    erase(ledger, 30)
    with pytest.raises(Tampered, match="archive the segment anew"):
        detach(ledger, archive)
    detach(ledger, export(ledger, tmp_path / "1", 0, 256))


def test_the_cut_is_a_multiple_of_256(ledger: Any) -> None:
    for cut in (0, 100, 300):
        with pytest.raises(LedgerError, match="multiples of 256"):
            due_segments(ledger, cut=cut)
    assert due_segments(ledger, cut=256, keep=200) == [(0, 256)]
