"""The local key-encryption key: private, never overwritten, never shown."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import pytest

from cognify_dagster.evidence import (
    EvidenceCorrupt,
    EvidenceError,
    EvidenceKeyUnavailable,
    KeyProvider,
    LocalKeyProvider,
)
from cognify_dagster.evidence.envelope import encrypt0


def test_a_new_key_file_is_private_and_random(tmp_path: Path) -> None:
    LocalKeyProvider.create(tmp_path / "a")
    LocalKeyProvider.create(tmp_path / "sub" / "b")
    for path in (tmp_path / "a", tmp_path / "sub" / "b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_size == 32
        assert path.stat().st_nlink == 1
    assert (tmp_path / "a").read_bytes() != (tmp_path / "sub" / "b").read_bytes()
    assert stat.S_IMODE((tmp_path / "sub").stat().st_mode) == 0o700


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    LocalKeyProvider.create(path)
    before = path.read_bytes()
    with pytest.raises(EvidenceError, match="never overwritten"):
        LocalKeyProvider.create(path)
    assert path.read_bytes() == before
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(EvidenceError, match="never overwritten"):
        LocalKeyProvider.create(tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o610, 0o644, 0o777])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    LocalKeyProvider.create(tmp_path / "kek")
    (tmp_path / "kek").chmod(mode)
    with pytest.raises(EvidenceKeyUnavailable, match="chmod 600"):
        LocalKeyProvider(tmp_path / "kek")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LocalKeyProvider.create(tmp_path / "kek")
    os.chown(tmp_path / "kek", 12345, 12345)
    with pytest.raises(EvidenceKeyUnavailable, match="user id 12345"):
        LocalKeyProvider(tmp_path / "kek")


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33, b"x" * 64])
def test_a_file_of_another_length_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kek").write_bytes(content)
    (tmp_path / "kek").chmod(0o600)
    with pytest.raises(EvidenceKeyUnavailable, match="32 bytes"):
        LocalKeyProvider(tmp_path / "kek")


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvidenceKeyUnavailable, match="missing"):
        LocalKeyProvider(tmp_path / "kek")
    with pytest.raises(EvidenceKeyUnavailable, match="regular"):
        LocalKeyProvider(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(EvidenceKeyUnavailable, match="regular"):
        LocalKeyProvider(tmp_path / "pipe")


def test_wrapping_is_randomised_and_bound_to_its_context(kek: LocalKeyProvider) -> None:
    key = os.urandom(32)
    first, second = kek.wrap(key, b"context"), kek.wrap(key, b"context")
    assert first != second
    assert kek.unwrap(first, b"context") == kek.unwrap(second, b"context") == key
    with pytest.raises(EvidenceCorrupt):
        kek.unwrap(first, b"other context")


def test_a_wrapped_key_has_one_form_even_from_a_key_holder(kek: LocalKeyProvider, tmp_path: Path) -> None:
    def wrap(headers: dict[int | str, object]) -> bytes:
        key, kid = (tmp_path / "kek").read_bytes(), kek.key_id.encode()
        return encrypt0(bytes(32), key=key, iv=bytes(12), kid=kid, external_aad=b"context", headers=headers)

    assert kek.unwrap(wrap({}), b"context") == bytes(32)
    with pytest.raises(EvidenceCorrupt, match="no protected header but"):
        kek.unwrap(wrap({3: "text/plain"}), b"context")


def test_another_key_is_named_in_the_error(kek: LocalKeyProvider, tmp_path: Path) -> None:
    other = LocalKeyProvider.create(tmp_path / "other")
    with pytest.raises(EvidenceKeyUnavailable) as raised:
        other.unwrap(kek.wrap(bytes(32), b""), b"")
    assert kek.key_id in str(raised.value)
    assert other.key_id in str(raised.value)


def test_every_flipped_bit_of_a_wrapped_key_is_caught(kek: LocalKeyProvider) -> None:
    wrapped = kek.wrap(os.urandom(32), b"context")
    for position in range(len(wrapped)):
        for bit in range(8):
            damaged = bytearray(wrapped)
            damaged[position] ^= 1 << bit
            with pytest.raises((EvidenceCorrupt, EvidenceKeyUnavailable)):
                kek.unwrap(bytes(damaged), b"context")


def test_the_key_is_not_shown_and_does_not_travel(kek: LocalKeyProvider, tmp_path: Path) -> None:
    key = (tmp_path / "kek").read_bytes()
    assert repr(key)[2:-1] not in repr(kek)
    assert key.hex() not in repr(kek)
    assert key.hex()[:32] not in kek.key_id
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(kek)


def test_the_local_provider_has_the_shape_of_a_key_service(kek: LocalKeyProvider) -> None:
    assert isinstance(kek, KeyProvider)
