"""Secrets do not get into journals and records; settings that only sound like secrets do."""

from __future__ import annotations

import pytest

from cognify_dagster.instrument import sdk as cognify
from cognify_dagster.instrument.sdk.redaction import REDACTED, redact, redact_command, redact_text
from cognify_dagster.records import TrainingRun
from tests.governance.world import MODEL, World


@pytest.mark.parametrize(
    "name",
    [
        "password", "db_password", "DB_PASSWORD", "dbPassword", "pwd", "passphrase", "secret", "client_secret", "api_key", "apiKey",
        "API_KEY", "apikey", "openai_api_key", "access_key", "aws_access_key_id", "private_key", "token", "hub_token", "hf_token",
        "push_to_hub_token", "access_token", "authToken", "credentials", "wandb-api-key", "tokens",
    ],
)  # fmt: skip
def test_a_secret_by_its_name_is_replaced_and_stays_visible(name: str) -> None:
    assert redact({name: "s3cr3t-value", "lr": 1}) == {name: REDACTED, "lr": 1}
    assert redact({"outer": [{name: "s3cr3t-value"}]}) == {"outer": [{name: REDACTED}]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer", "bert-base"),
        ("tokenizer_name", "x"),
        ("max_new_tokens", 100),
        ("num_input_tokens_seen", 5),
        ("tokens", 1_000_000),
        ("pad_token", "<pad>"),
        ("eos_token_id", 2),
        ("bos_token", "<s>"),
        ("tokens_per_second", 3.5),
        ("token", None),
        ("password", ""),
        ("use_auth_token", False),
        ("author", "Ada"),
        ("key", "ID"),
        ("keys", ["a"]),
        ("secretary", "Ada"),
        ("monkey", "x"),
    ],
)
def test_a_setting_that_only_sounds_like_one_is_kept(name: str, value: object) -> None:
    assert redact({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pw@host/path", f"https://{REDACTED}@host/path"),
        ("postgresql://user:pw@db/x?sslmode=on", f"postgresql://{REDACTED}@db/x?sslmode=on"),
        ("https://host/?token=abc123&x=1", f"https://host/?token={REDACTED}&x=1"),
        ("hf_" + "a" * 34, REDACTED),
        ("key AKIA" + "A" * 16, f"key {REDACTED}"),
        ("git@github.com:team/repo", "git@github.com:team/repo"),
        ("a plain sentence about tokens and keys", "a plain sentence about tokens and keys"),
    ],
)
def test_credentials_inside_texts_are_replaced(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_command_lines_lose_the_values_of_secret_options() -> None:
    words = ["train.py", "--api-key", "abc", "--lr", "1", "--password=xyz", "--hub_token", "t", "token=q"]
    assert redact_command(words) == (
        "train.py", "--api-key", REDACTED, "--lr", "1", f"--password={REDACTED}", "--hub_token", REDACTED, f"token={REDACTED}",
    )  # fmt: skip


def test_no_secret_reaches_journal_or_ledger(world: World) -> None:
    cognify.init(project=MODEL)
    run = cognify.run(config={"lr": 1, "api_key": "TOPSECRET1", "db": {"url": "postgresql://u:TOPSECRET2@h/x"}})
    run.log_extra("hub_token", "TOPSECRET3")
    run.note_selection("see https://u:TOPSECRET4@host")
    run.set_architecture("N", framework="f", framework_version="1", token="TOPSECRET5")
    run.set_base_model("b", sha256="a" * 64, licence="x", password="TOPSECRET6")
    with pytest.raises(cognify.SdkError, match="secret"):
        run.set_rerun(["python", "t.py", "--token", "TOPSECRET7"])
    assert run.spool is not None
    assert b"TOPSECRET" not in (run.spool / "journal.jsonl").read_bytes()
    model = world.folder / "m.bin"
    model.write_bytes(b"m")
    run.save_model(model)
    run.complete()
    record = world.workspace.read().latest(TrainingRun, world.subject("1"))
    assert record is not None
    assert b"TOPSECRET" not in record.record.payload()
    assert record.record.config["api_key"] == REDACTED
