"""The seal of the final copy: what it covers, what breaks it, and that other readers accept it."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from pyhanko.pdf_utils.reader import PdfFileReader

from cognify_dagster.documents import record_final_copy
from cognify_dagster.documents.errors import SealError
from cognify_dagster.documents.pdf import rendering as pdf_module
from cognify_dagster.documents.pdf.seal import Seal, check_seal, create_seal, read_certificate, seal_pdf
from cognify_dagster.workspace.config import SealConfig
from tests.documents.story import Story
from tests.ledger.anchor_servers import Authority, tsa_server

SOURCE = (
    b'#set document(title: "t", date: datetime(year: 2026, month: 11, day: 21))\n#set text(lang: "en")\n= T\nSealed.'
)


@pytest.fixture(scope="module")
def plain() -> bytes:
    return pdf_module.run_typst({"package.typ": SOURCE}, {}, 0) + b"\n"


@pytest.fixture(scope="module")
def seal(tmp_path_factory: pytest.TempPathFactory) -> Seal:
    folder = tmp_path_factory.mktemp("seal")
    create_seal(folder / "seal.key", folder / "seal.crt", "Example Bank, model documents")
    return Seal(folder / "seal.key", folder / "seal.crt")


@pytest.fixture(scope="module")
def certificate(seal: Seal) -> x509.Certificate:
    return read_certificate(seal.certificate)


@pytest.fixture(scope="module")
def sealed(plain: bytes, seal: Seal) -> bytes:
    return seal_pdf(plain, seal)


def test_the_unsealed_document_is_a_prefix_and_stays_archival(plain: bytes, sealed: bytes, tmp_path: Path) -> None:
    assert sealed.startswith(plain)
    assert len(sealed) > len(plain)
    (tmp_path / "s.pdf").write_bytes(sealed)
    with pikepdf.open(tmp_path / "s.pdf") as document:
        metadata = document.open_metadata()
        assert metadata.pdfa_status == "3A"
        assert metadata["pdfuaid:part"] == "1"


def test_it_holds_over_the_whole_file(sealed: bytes, certificate: x509.Certificate) -> None:
    state = check_seal(sealed, [certificate])
    assert state.problems == ()
    assert state.holds
    assert state.subject == "CN=Example Bank\\, model documents"
    assert state.signed_at.endswith("Z")
    assert not state.time_stamped


def test_one_flipped_bit_in_the_document_is_caught_and_none_in_the_seal_changes_what_it_says(
    sealed: bytes, certificate: x509.Certificate
) -> None:
    """CMS leaves a few fields of its container unsigned (versions, the list of algorithms); they say nothing of the document."""
    whole = check_seal(sealed, [certificate])
    covered = next(iter(PdfFileReader(io.BytesIO(sealed)).embedded_signatures)).byte_range
    step = max(1, len(sealed) // 120)
    for at in range(0, len(sealed), step):
        for bit in (1, 0x20):
            bent = bytearray(sealed)
            bent[at] ^= bit
            found = check_seal(bytes(bent), [certificate])
            inside = covered[1] <= at < covered[2]
            assert not found.holds or (inside and found == whole), f"byte {at}, {bit}"


def test_what_is_added_after_the_seal_is_caught(sealed: bytes, certificate: x509.Certificate) -> None:
    state = check_seal(sealed + b"% more\n", [certificate])
    assert not state.holds
    assert any("whole file" in problem for problem in state.problems)


def test_a_foreign_certificate_no_seal_or_no_pdf_does_not_hold(
    plain: bytes, sealed: bytes, certificate: x509.Certificate, tmp_path: Path
) -> None:
    other = create_seal(tmp_path / "k", tmp_path / "c", "Somebody else")
    assert "not trusted" in check_seal(sealed, [other]).problems[0]
    assert not check_seal(sealed, []).holds
    assert "0 signatures" in check_seal(plain, [certificate]).problems[0]
    assert not check_seal(b"", [certificate]).holds
    assert not check_seal(b"hello", [certificate]).holds


def test_a_second_seal_does_not_pass_as_one(sealed: bytes, seal: Seal, certificate: x509.Certificate) -> None:
    with pytest.raises(SealError):
        seal_pdf(sealed, seal)
    assert check_seal(sealed, [certificate]).holds


def test_poppler_accepts_it(sealed: bytes, tmp_path: Path) -> None:
    tool = shutil.which("pdfsig")
    if tool is None:
        pytest.skip("pdfsig (poppler-utils) is not installed")
    (tmp_path / "s.pdf").write_bytes(sealed)
    told = subprocess.run(
        [tool, "-nocert", str(tmp_path / "s.pdf")], capture_output=True, text=True, check=False
    ).stdout
    assert "Signature is Valid" in told
    assert "Total document signed" in told
    bent = bytearray(sealed)
    bent[len(bent) // 4] ^= 1
    (tmp_path / "b.pdf").write_bytes(bytes(bent))
    told = subprocess.run(
        [tool, "-nocert", str(tmp_path / "b.pdf")], capture_output=True, text=True, check=False
    ).stdout
    assert "Signature is Valid" not in told


def test_keys_that_do_not_fit_are_named(plain: bytes, seal: Seal, tmp_path: Path) -> None:
    def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        path.chmod(0o600)
        return path

    with pytest.raises(SealError, match="P-256"):
        seal_pdf(plain, Seal(pem(ed25519.Ed25519PrivateKey.generate(), "ed"), seal.certificate))
    with pytest.raises(SealError, match="P-256"):
        seal_pdf(plain, Seal(pem(ec.generate_private_key(ec.SECP384R1()), "p384"), seal.certificate))
    with pytest.raises(SealError, match="another key"):
        seal_pdf(plain, Seal(pem(ec.generate_private_key(ec.SECP256R1()), "other"), seal.certificate))
    with pytest.raises(SealError, match="none"):
        seal_pdf(plain, Seal(tmp_path / "none", seal.certificate))
    loose = pem(ec.generate_private_key(ec.SECP256R1()), "loose")
    loose.chmod(0o644)
    with pytest.raises(SealError, match="chmod 600"):
        seal_pdf(plain, Seal(loose, seal.certificate))
    with pytest.raises(SealError, match="exists"):
        create_seal(seal.key, tmp_path / "new", "x")
    with pytest.raises(SealError, match="printable"):
        create_seal(tmp_path / "a", tmp_path / "b", "")


@pytest.fixture(scope="module")
def stamped(plain: bytes, seal: Seal, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, x509.Certificate]:
    """A document sealed with a time stamp (B-T) by a real authority on this machine, and that authority's root."""
    authority = Authority(tmp_path_factory.mktemp("tsa"))
    with tsa_server(lambda query: (200, authority.reply(query))) as url:
        made = seal_pdf(plain, Seal(seal.key, seal.certificate, tsa=url))
    return made, x509.load_pem_x509_certificate(authority.root_pem)


def test_a_time_stamp_of_a_trusted_authority_proves_when(
    stamped: tuple[bytes, x509.Certificate], certificate: x509.Certificate, sealed: bytes
) -> None:
    pdf, root = stamped
    state = check_seal(pdf, [certificate], [root])
    assert state.holds, state.problems
    assert state.stamped_at
    assert state.time_stamped
    unasked = check_seal(pdf, [certificate])
    assert (unasked.holds, unasked.time_stamped, unasked.stamped_at) == (True, True, "")
    without = check_seal(sealed, [certificate], [root])
    assert (without.holds, without.problems) == (False, ("there is no time stamp",))


def test_a_time_stamp_of_another_authority_counts_for_nothing(
    stamped: tuple[bytes, x509.Certificate], certificate: x509.Certificate, tmp_path: Path
) -> None:
    other = x509.load_pem_x509_certificate(Authority(tmp_path, "other").root_pem)
    state = check_seal(stamped[0], [certificate], [other])
    assert not state.holds
    assert state.stamped_at == ""
    assert "not by an authority" in state.problems[0]


def test_without_an_answer_of_the_time_stamping_authority_nothing_is_sealed(plain: bytes, seal: Seal) -> None:
    begin = time.monotonic()
    with pytest.raises(SealError, match="could not be sealed"):
        seal_pdf(plain, Seal(seal.key, seal.certificate, tsa="http://127.0.0.1:9/tsa"))
    assert time.monotonic() - begin < 25


def test_the_final_copy_of_a_workspace_with_a_seal_is_sealed_and_names_its_certificate(
    story: Story,
    frameworks: list[Any],
    now: datetime,
    seal: Seal,
    certificate: x509.Certificate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story.prepare_version("1")
    story.package(frameworks, now)
    story.sign_all()
    told = replace(story.ws.config, seal=SealConfig(seal.key, seal.certificate))
    monkeypatch.setattr(story.ws, "config", told)
    made = record_final_copy(story.ws, story.model, "1")
    assert made is not None
    assert made.record.sealed
    pdf = story.ws.evidence.get(made.record.final_copy.digest)
    assert check_seal(pdf, [certificate]).holds
    tool = shutil.which("pdftotext")
    assert tool, "poppler-utils"
    shown = subprocess.run([tool, "-", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
    assert f"serial {certificate.serial_number:x}"[:20] in " ".join(shown.split())
