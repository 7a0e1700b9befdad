"""`cognify attest`: agreements and licences are attested, listed as a register, withdrawn."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cognify_dagster.evidence import EvidenceStore
from tests.cli.conftest import Cognify, Outcome, key_file
from tests.governance.world import MODEL, World

ABOUT = f"model/{MODEL}"


def day(days: int) -> str:
    return (datetime.now(timezone.utc) + timedelta(days=days)).strftime("%Y-%m-%d")


def make(cognify: Cognify, world: World, *words: object, by: str = "carl") -> Outcome:
    given = words or ("baa", "--about", ABOUT, "--party", "Acme Cloud", "--expires", day(30))
    return cognify("attest", *given, "--as", key_file(world, by), "--yes", "--json", at=world)


def test_an_agreement_is_attested_and_stands_in_the_register(ready: World, cognify: Cognify) -> None:
    done = cognify(
        "attest", "baa", "--about", ABOUT, "--party", "Acme Cloud", "--expires", day(30),
        "--key", key_file(ready, "carl"), "--yes", at=ready,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "protected health information" in done.out, "what is signed is shown in full"
    listed = cognify("attest", "list", at=ready)
    assert "Acme Cloud" in listed.out
    assert "counts" in listed.out
    (item,) = cognify("attest", "list", "--text", "baa", "--json", at=ready).json["attestations"]
    assert (item["party"], item["name"], item["role"], item["counts"]) == (
        "Acme Cloud",
        "Carl",
        "compliance_officer",
        True,
    )
    shown = cognify("attest", "show", item["entry"], at=ready)
    assert "protected health information" in shown.out
    assert cognify("attest", "list", "--expiring", 10, "--json", at=ready).json["attestations"] == []
    assert len(cognify("attest", "list", "--expiring", 40, "--json", at=ready).json["attestations"]) == 1


def test_make_may_be_left_out_and_the_same_is_not_attested_twice(ready: World, cognify: Cognify) -> None:
    words = ("licence", "--about", "dataset/loans_train", "--expires", "never")
    first = make(cognify, ready, *words)
    assert first.code == 0, first.err
    second = make(cognify, ready, "make", *words)
    assert second.code == 1
    assert f"attested already, by entry {first.json['entry']}" in second.err


def test_it_is_withdrawn_and_then_hidden(ready: World, cognify: Cognify) -> None:
    entry = make(cognify, ready).json["entry"]
    words = ("attest", "withdraw", entry, "--reason", "the vendor left", "--yes")
    assert "may not sign this" in cognify(*words, "--as", key_file(ready, "vera"), at=ready).err
    done = cognify(*words, "--as", key_file(ready, "carl"), at=ready)
    assert done.code == 0, done.err
    listed = cognify("attest", "list", at=ready)
    assert "1 more that count no more" in listed.out
    assert "was withdrawn" in " ".join(cognify("attest", "list", "--all", at=ready).out.split())
    assert "is no attestation" in cognify("attest", "withdraw", 1, "--reason", "x", at=ready).err


def test_of_a_newer_snapshot_it_says_nothing(ready: World, cognify: Cognify) -> None:
    entry = make(cognify, ready, "data_provenance", "--about", "dataset/loans_train", "--expires", "never").json[
        "entry"
    ]
    ready.snapshot("loans_train", "ef" * 32)
    assert "counts for an earlier snapshot only" in cognify("attest", "show", entry, at=ready).out
    early = make(
        cognify, ready, "data_source_agreement", "--about", "dataset/loans_train", "--expires", day(9), "--party", "UCI",
        "--entry", ready.data["train"],
    )  # fmt: skip
    assert early.code == 0, early.err
    wrong = make(cognify, ready, "licence", "--about", "dataset/loans_train", "--expires", "never", "--entry", 1)
    assert "has no snapshot in entry 1" in wrong.err


def test_who_attests_data_is_told_that_they_cannot_sign_off_what_rests_on_it(ready: World, cognify: Cognify) -> None:
    signing = ("--as", key_file(ready, "carl"), "--yes")
    words = ("attest", "data_provenance", "--about", "dataset/loans_train", "--expires", "never")
    told = "cannot sign such a version off"
    assert told in " ".join(cognify(*words, *signing, at=ready).out.split())
    model = ("attest", "vendor_contract", "--about", ABOUT, "--party", "Acme", "--expires", day(30))
    assert told not in " ".join(cognify(*model, *signing, at=ready).out.split())


def test_a_document_is_kept_encrypted_and_named_by_its_digest(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    contract = tmp_path / "contract.pdf"
    contract.write_bytes(b"%PDF-1.7 the secret contract")
    words = ("vendor_contract", "--about", ABOUT, "--party", "Acme", "--expires", day(30), "--document", contract)
    done = make(cognify, ready, *words)
    assert done.code == 0, done.err
    (item,) = cognify("attest", "list", "--json", at=ready).json["attestations"]
    (document,) = item["documents"]
    assert (document["name"], document["sensitivity"]) == ("contract.pdf", "confidential")
    store: EvidenceStore = ready.workspace.evidence
    assert store.get(document["digest"]) == contract.read_bytes()
    kept = [path for path in (ready.folder / "project" / ".cognify").rglob("*") if path.is_file()]
    assert not any(b"the secret contract" in path.read_bytes() for path in kept)


def test_a_text_of_ones_own_and_another_machine(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    text = tmp_path / "export.md"
    text.write_text("We checked the export rules for this model.\n", encoding="utf-8")
    draft, signed = tmp_path / "draft.json", tmp_path / "signed.json"
    words = ("attest", "export_control", "--about", f"{ABOUT}@1", "--text", text, "--expires", day(30))
    out = cognify(*words, "--export", draft, "--signer", "person/olga", at=ready)
    assert out.code == 0, out.err
    assert "We checked the export rules" in out.out
    away = cognify("act", "sign", draft, "--key", key_file(ready, "olga"), "--out", signed, "--yes")
    assert away.code == 0, away.err
    assert cognify("act", "submit", signed, at=ready).code == 0
    (item,) = cognify("attest", "list", "--json", at=ready).json["attestations"]
    assert (item["text_id"], item["role"], item["about"]) == ("export_control", "business_owner", f"{ABOUT}@1")


def test_an_organisations_own_texts_come_before_the_shipped_ones(ready: World, cognify: Cognify) -> None:
    settings = ready.folder / "project" / "cognify.toml"
    folder = settings.parent / "frameworks" / "attestations"
    folder.mkdir(parents=True)
    (folder / "baa.md").write_text("---\nversion: ours-4\n---\nOur own words.\n", encoding="utf-8")
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("[workspace]", '[workspace]\nframeworks = "frameworks"'), encoding="utf-8")
    assert "Our own words." in cognify("attest", "texts", "baa", at=ready).out
    entry = make(cognify, ready).json["entry"]
    assert "Our own words." in cognify("attest", "show", entry, at=ready).out
    assert "licence" in cognify("attest", "texts", at=ready).out


def test_the_shipped_texts_are_listed_and_shown(cognify: Cognify) -> None:
    assert "Business associate agreement" in cognify("attest", "texts").out
    assert "protected health information" in cognify("attest", "texts", "baa").out
    assert {"baa", "licence"} <= {item["text_id"] for item in cognify("attest", "texts", "--json").json}


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("baa", "--about", ABOUT, "--expires", "2099-01-01"), 5, "say who it is (--party)"),
        (("baa", "--about", ABOUT, "--expires", "2099-01-01", "--party", "Acme"), 5, "at most 366 days"),
        (("baa", "--about", ABOUT, "--expires", "never", "--party", "Acme"), 5, "at most 366 days"),
        (("licence", "--about", ABOUT, "--expires", "2020-01-01"), 1, "it had expired"),
        (
            ("baa", "--about", "dataset/loans_train", "--expires", "never", "--party", "A"),
            5,
            "not about dataset/loans_train",
        ),
        (("nothing", "--about", ABOUT, "--expires", "never"), 1, "there is no text 'nothing' to attest"),
        (("licence", "--about", "person/carl", "--expires", "never"), 5, "none of model/KEY"),
        (("licence", "--about", ABOUT, "--expires", "soon"), 5, "nor never"),
        (("licence", "--about", "dataset/other", "--expires", "never"), 1, "the ledger knows no dataset/other"),
        (("licence", "--about", ABOUT, "--expires", "never", "--role", "model_validator"), 5, "not by model_validator"),
    ],
)
def test_what_cannot_be_attested_is_said(
    words: tuple[str, ...], code: int, part: str, ready: World, cognify: Cognify
) -> None:
    size = ready.workspace.ledger.size()
    result = make(cognify, ready, *words)
    assert result.code == code
    assert part in result.err
    assert ready.workspace.ledger.size() == size


def test_only_in_the_role_of_the_text(ready: World, cognify: Cognify) -> None:
    assert "may not sign this: it needs compliance_officer" in make(cognify, ready, by="vera").err
