"""Personal keys: the file, its pass phrase, and what a damaged or hostile file gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.governance import KeyFileError, create_key, read_public, unlock_key
from cognify_dagster.governance.signing import keys as module
from tests.governance.world import PASSPHRASE

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    path = tmp_path_factory.mktemp("keys") / "ada.json"
    key = create_key(path, "person/ada", PASSPHRASE)
    return path.read_bytes(), key.key_id


@pytest.fixture
def path(original: tuple[bytes, str], tmp_path: Path) -> Path:
    copy = tmp_path / "ada.json"
    copy.write_bytes(original[0])
    return copy


def edit(path: Path, change: Change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_key_unlocks_with_its_pass_phrase_and_signs_the_same(path: Path, original: tuple[bytes, str]) -> None:
    key = unlock_key(path, PASSPHRASE)
    assert (key.person, key.key_id) == ("person/ada", original[1])
    assert read_public(path) == ("person/ada", key.public)
    assert len(key.sign(b"x")) == 64


def test_the_file_is_private_and_holds_no_plain_secret(tmp_path: Path) -> None:
    path = tmp_path / "new" / "k.json"
    key = create_key(path, "person/ada", PASSPHRASE)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert PASSPHRASE not in text
    assert key.private.private_bytes_raw().hex() not in text
    assert [item.name for item in path.parent.iterdir()] == ["k.json"]


@pytest.mark.parametrize("phrase", ["", "wrong horse battery", PASSPHRASE + " ", PASSPHRASE.upper()])
def test_a_wrong_pass_phrase_is_refused(path: Path, phrase: str) -> None:
    with pytest.raises(KeyFileError, match="pass phrase is wrong"):
        unlock_key(path, phrase)


def test_a_short_pass_phrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="at least 12"):
        create_key(tmp_path / "k.json", "person/ada", "x" * 11)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("person", ["ada", "person/Ada", "person/", "person/a b", "workload/x", "person/ada\n"])
def test_a_malformed_person_id_is_refused_at_once(tmp_path: Path, person: str) -> None:
    with pytest.raises(KeyFileError, match="person/ada"):
        create_key(tmp_path / "k.json", person, PASSPHRASE)


def test_a_key_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_key(path, "person/ada", PASSPHRASE)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(person="person/carl"),
        lambda data: data.update(key_id="0" * 16),
        lambda data: data.update(comment="hello"),
        lambda data: data["kdf"].update(iterations=2),
        lambda data: data["kdf"].update(lanes=2),
        lambda data: data["kdf"].update(name="argon2i"),
        lambda data: data["kdf"].update(salt="A" * 22 + "=="),
        lambda data: data["cipher"].update(nonce="A" * 16),
        lambda data: data.update(sealed="A" * 64),
    ],
)
def test_a_header_field_that_was_changed_does_not_unlock(path: Path, change: Change) -> None:
    edit(path, change)
    with pytest.raises(KeyFileError, match="pass phrase is wrong, or the file was changed"):
        unlock_key(path, PASSPHRASE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_kib", 1024 * 1024 + 1),
        ("memory_kib", 0),
        ("memory_kib", -1),
        ("memory_kib", "65536"),
        ("memory_kib", 1e9),
        ("iterations", 21),
        ("iterations", 10**12),
        ("lanes", 17),
        ("lanes", None),
    ],
)
def test_hostile_parameters_are_refused_without_deriving(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    """A key file from somebody else must not eat the machine's memory or hours of its time."""

    def never(*_: object) -> bytes:
        raise AssertionError("the key derivation ran")

    monkeypatch.setattr(module, "_derive", never)
    edit(path, lambda data: data["kdf"].update({name: value}))
    with pytest.raises(KeyFileError, match=rf"kdf\.{name} is out of range"):
        unlock_key(path, PASSPHRASE)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("kdf"),
        lambda data: data.update(kdf=[]),
        lambda data: data.update(cipher="x"),
        lambda data: data.update(sealed=7),
        lambda data: data["kdf"].update(salt="!"),
        lambda data: data["kdf"].update(salt=""),
        lambda data: data["kdf"].update(memory_kib=1),
        lambda data: data["cipher"].update(nonce=""),
        lambda data: data.update(format="other/v1"),
    ],
)
def test_a_damaged_file_is_named(path: Path, change: Change) -> None:
    edit(path, change)
    with pytest.raises(KeyFileError, match=r"ada\.json"):
        unlock_key(path, PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{" * 5000, b" " * 70_000])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ada.json"
    path.write_bytes(content)
    for read in (read_public, lambda p: unlock_key(p, PASSPHRASE)):
        with pytest.raises(KeyFileError, match=r"ada\.json"):
            read(path)
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_public(tmp_path / "absent.json")


def test_the_public_half_alone_is_checked_against_its_id(path: Path) -> None:
    edit(path, lambda data: data.update(key_id="0" * 16))
    with pytest.raises(KeyFileError, match="does not match"):
        read_public(path)
