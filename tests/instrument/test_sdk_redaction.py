"""Secrets do not get into journals and records; settings that only sound like secrets do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.evaluation import as_eval_result
from cognify_dagster.instrument import sdk as cognify
from cognify_dagster.instrument.sdk.redaction import REDACTED, redact, redact_command, redact_text
from cognify_dagster.records import Evaluation, TrainingRun
from tests.governance.world import MODEL, World


@pytest.mark.parametrize(
    "name",
    [
        "password", "db_password", "DB_PASSWORD", "dbPassword", "pwd", "passphrase", "secret", "client_secret", "api_key", "apiKey",
        "API_KEY", "apikey", "openai_api_key", "access_key", "aws_access_key_id", "private_key", "token", "hub_token", "hf_token",
        "push_to_hub_token", "access_token", "authToken", "credentials", "wandb-api-key", "tokens",
        "Authorization", "proxy-authorization", "authorization_header", "bearer", "cookie", "Set-Cookie", "session", "id_token", "OPENAI_KEY",
        "wandb_key", "comet-key",
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
        ("num_tokens", "100"),
        ("max_tokens", 4096),
        ("mask_token", "[MASK]"),
        ("my_token", "<mine>"),
        ("token_type_ids", [0, 1]),
        ("stop_token_ids", [2]),
        ("key_columns", ["customer_identifier_2026"]),
        ("record_key", "customer_identifier_of_the_bank"),
        ("sort_key", "0123456789abcdef0123"),
        ("monitor_key", "eval/accuracy_overall"),
        ("lookup_key", "0123456789abcdef0123456789"),
        ("license_key", "short"),
        ("s3_key", "models/credit/2026/weights.bin"),
        ("public_key", "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"),
        ("session", 3),
        ("session_length", "a long while that is"),
        ("session_id", "short"),
        ("auth", "kerberos"),
        ("authorization", None),
        ("cookies", 4),
        ("cookie_share", 0.2),
        ("author_key_figures", "0123456789abcdef0123"),
    ],
)
def test_a_setting_that_only_sounds_like_one_is_kept(name: str, value: object) -> None:
    assert redact({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("azure_storage_key", "x" * 40),
        ("billing_key", "0123456789abcdef0123456789abcdef"),
        ("session_id", "0123456789abcdef0123456789abcdef"),
        ("auth", ["ada", "pw"]),
        ("auth", "ada:pw"),
        ("cookies", {"sid": "abc"}),
        ("OPENAI_KEY", "abc"),
    ],
)
def test_a_setting_whose_value_has_the_form_of_a_key_is_replaced(name: str, value: object) -> None:
    assert redact({name: value}) == {name: REDACTED}


PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://u:p@ss@h/x https://c@d/", f"https://{REDACTED}@h/x https://{REDACTED}@d/"),
        ("Authorization: Bearer abc", f"Authorization: {REDACTED}"),
        ("authorization=Basic dXNlcjpwdw==", f"authorization={REDACTED}"),
        ("sent Bearer abc.def-1 along", f"sent Bearer {REDACTED} along"),
        ("bearer 0123456789abcdef", f"bearer {REDACTED}"),
        ("see eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk.", f"see {REDACTED}."),
        (f"key {PEM} end", f"key {REDACTED} end"),
        ("-----BEGIN PRIVATE KEY-----\nabc", REDACTED),
        ("AccountName=a;AccountKey=abc123==;EndpointSuffix=x", f"AccountName=a;AccountKey={REDACTED};EndpointSuffix=x"),
        ("https://b.example/x?se=1&sig=ab%3D&sp=r", f"https://b.example/x?se=1&sig={REDACTED}&sp=r"),
        ("https://s3/x?X-Amz-Signature=ff00&a=1", f"https://s3/x?X-Amz-Signature={REDACTED}&a=1"),
        ("host=db password='two words' user=x", f"host=db password={REDACTED} user=x"),
        ('{"client_secret": "a b", "n": 1}', f'{{"client_secret": {REDACTED}, "n": 1}}'),
        ("id_token=abc", f"id_token={REDACTED}"),
        ("Set-Cookie: sid=abc; Path=/", f"Set-Cookie: {REDACTED}"),
        ("Bearer tokens are used, by the bearer of news", "Bearer tokens are used, by the bearer of news"),
        ("per token: 0.35 nats, num_tokens=5, pad_token=<pad>", "per token: 0.35 nats, num_tokens=5, pad_token=<pad>"),
        ("token: the smallest unit of a text", "token: the smallest unit of a text"),
        ("sig=0.05, two-sided", "sig=0.05, two-sided"),
        ("eval/accuracy=0.9 key=value", "eval/accuracy=0.9 key=value"),
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


def test_command_lines_lose_headers_and_keys_of_services() -> None:
    words = [
        "t.py",
        "--wandb-key",
        "abc",
        "-H",
        "Authorization: Bearer abc",
        "--db=postgres://u:p@h/d",
        "--sort-key",
        "late",
        "--max_tokens",
        "8",
    ]
    assert redact_command(words) == (
        "t.py", "--wandb-key", REDACTED, "-H", f"Authorization: {REDACTED}", f"--db=postgres://{REDACTED}@h/d", "--sort-key", "late",
        "--max_tokens", "8",
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.text(max_size=60), lambda inner: st.dictionaries(st.text(max_size=20), inner) | st.lists(inner)))
def test_going_over_a_value_twice_changes_nothing_more(value: object) -> None:
    once = redact(value)
    assert redact(once) == once


def test_long_texts_take_no_time() -> None:
    began = time.monotonic()
    for text in (
        "a-" * 100_000,
        "eyJaa-" * 30_000,
        "a://" * 50_000,
        "Bearer " * 30_000,
        "password " * 25_000,
        "x" * 200_000,
    ):
        redact_text(text)
    assert time.monotonic() - began < 10


def test_settings_of_an_evaluation_are_recorded_without_secrets(world: World, tmp_path: Path) -> None:
    cognify.init(project=MODEL)
    run = cognify.run()
    model = tmp_path / "m.bin"
    model.write_bytes(b"m")
    run.save_model(model)
    judged = {"judge": {"api_key": "TOPSECRET", "max_tokens": 8, "url": "https://u:TOPSECRET@h/v1"}}
    run.eval(as_eval_result({"auc": 0.8}, n=40).model_copy(update={"settings": judged}), "holdout-v3")
    run.complete()
    record = world.workspace.read().all(Evaluation)[0].record
    assert record.tables["settings"] == {
        "judge": {"api_key": REDACTED, "max_tokens": 8, "url": f"https://{REDACTED}@h/v1"}
    }
    assert b"TOPSECRET" not in record.payload()


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
