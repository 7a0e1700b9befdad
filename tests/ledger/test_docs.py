"""The pages for auditors and second implementers say what is true: their commands run, their numbers are the code's."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger.canonical import MAX_DEPTH
from cognify_dagster.ledger.entry import MAX_ENTRY, MAX_PAYLOAD, MAX_SCHEMA, MAX_SUBJECTS
from cognify_dagster.ledger.sqlite.store import APPLICATION_ID

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/ledger"


def commands(scratch: Path) -> str:
    text = (ROOT / "docs/by-hand.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S)).replace("/tmp/", f"{scratch}/")


def by_hand(folder: Path) -> subprocess.CompletedProcess[str]:
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(scratch)], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    with zipfile.ZipFile(GOLDEN / "bundle-v1.zip") as archive:
        archive.extractall(tmp_path)
    shutil.copy(GOLDEN / "bundle-v1.trust.txt", tmp_path / "trust.txt")
    return tmp_path / "credit_default-1"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_commands_for_hand_verification_work(bundle: Path) -> None:
    done = by_hand(bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": ok") == 3
    assert "DOES NOT FIT" not in done.stdout
    assert done.stdout.count("Signature Verified Successfully") == 2
    assert "in the ledger" in done.stdout
    assert "the statement names this package" in done.stdout
    assert "entry 0 about policy: genesis" in done.stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("subject", ["people", "ledger", "model/credit_default@1", "person/val"])
def test_a_subject_is_walked_by_hand(bundle: Path, monkeypatch: pytest.MonkeyPatch, subject: str) -> None:
    monkeypatch.setenv("SUBJECT", subject)
    done = by_hand(bundle)
    walked = [int(seq) for seq in re.findall(rf"entry (\d+) about {subject}:", done.stdout)]
    assert len(walked) >= 2
    assert walked == sorted(walked, reverse=True)
    (bundle / f"ledger/entries/{walked[1]:08d}.json").unlink()
    assert "is left out: DOES NOT FIT" in by_hand(bundle).stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_witness_is_checked_by_hand(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "checkpoint-cosigned.txt", tmp_path / "checkpoint.txt")
    shutil.copy(GOLDEN / "trust-witnessed.txt", tmp_path / "trust.txt")
    page = (ROOT / "docs/by-hand.md").read_text(encoding="utf-8")
    script = re.findall(r"```bash witness\n(.*?)```", page, re.S)[0].replace("/tmp/", f"{tmp_path}/")
    der = next(line for line in page.splitlines() if line.startswith("der() "))
    name = ov.parse_note((tmp_path / "checkpoint.txt").read_text(encoding="utf-8"))[1][-1][0]

    def run() -> subprocess.CompletedProcess[str]:
        command = ["bash", "-euo", "pipefail", "-c", f"{der}\nWITNESS={name}\n{script}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "Signature Verified Successfully" in run().stdout, run().stderr
    text = (tmp_path / "checkpoint.txt").read_text(encoding="utf-8")
    (tmp_path / "checkpoint.txt").write_text(text.replace("\n5\n", "\n6\n"), encoding="utf-8")
    assert run().returncode != 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ledger/entries/00000000.json", b"genesis", b"genesiz"),
        ("ledger/checkpoint.txt", b"\n18\n", b"\n19\n"),
        ("ledger/entries/00000011.json", b"sign_off", b"sign_ofg"),
        ("package/package.json", b"0.7731", b"0.9731"),
    ],
)
def test_the_commands_fail_on_a_changed_bundle(bundle: Path, name: str, old: bytes, new: bytes) -> None:
    data = (bundle / name).read_bytes()
    assert old in data
    (bundle / name).write_bytes(data.replace(old, new, 1))
    done = by_hand(bundle)
    assert done.returncode != 0 or "DOES NOT FIT" in done.stdout


def test_the_format_page_names_the_true_limits() -> None:
    page = (ROOT / "docs/ledger-format.md").read_text(encoding="utf-8")
    for text in (f"{MAX_ENTRY:,} bytes", f"{MAX_PAYLOAD >> 20} MiB", f"1 to {MAX_SUBJECTS} distinct", f"1 to {MAX_SCHEMA:,}",
                 f"at most {MAX_DEPTH} deep", f"0x{APPLICATION_ID:X}"):  # fmt: skip
        assert text in page, text


def test_the_format_page_names_every_member_of_the_statements() -> None:
    page = (ROOT / "docs/ledger-format.md").read_text(encoding="utf-8")
    sign_off, act = page.split("### 9.1")[1].split("### 9.2")
    assert {name for name in ov.SIGN_OFF_KEYS if f"`{name}`" not in sign_off} == set()
    assert {name for name in ov.ACT_KEYS if f"`{name}`" not in act} == set()


def test_the_exit_codes_are_the_documented_ones() -> None:
    page = (ROOT / "docs/verifying.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d) \| ([a-z ]+) \|", page, re.M))
    assert rows == {
        str(code): name.replace("rolled_back", "rolled back or forked") for code, name in enumerate(ov.OUTCOMES)
    }
