"""The SMS example as a Dagster code location: published messages, two snapshots, a fine-tuned transformer, its evaluation and release."""

import json
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

import cognify_dagster as cg
from examples.sms_finetune import base, messages, service
from examples.sms_finetune.evaluate import DIALECT, DIALECT_SOURCE, evaluate_spam
from examples.sms_finetune.finetune import FineTuneConfig, fine_tune

OWNER = "team:messaging"
SPLIT_SEED = 11

# What people state about the model. What is not written here shows as open in the package.
FRAMEWORK_FACTS = {
    "nist_rmf_adopted": True,
    "generative": False,
    "eu_model_market": True,
    "base_is_gpai": False,
    "gpai_provider_otherwise": False,
    "open_source_exempt": False,
    "systemic_risk": False,
    "established_outside_eu": False,
    "code_signatory": False,
    "gpai_role": (
        "No provider of a general-purpose model. The base model is an encoder of 22.7 million parameters made for sentence similarity: it "
        "generates nothing, is far below the indicative compute of general-purpose models, and the fine-tuned version does one task, "
        "spam or not. The compute of the fine-tuning is recorded with the training run."
    ),
    "attribute_source": DIALECT_SOURCE,
    "nist_scope": "The framework is used for this model as a whole, version 1.0 without the generative profile, since nothing is generated.",
    "risk_profile": (
        "Inherent risk: low to medium. A wanted message may be lost, a fraudulent one may come through. No decision about a person is "
        "taken, nothing is deleted, and users can read what was put aside. Hence tier medium."
    ),
    "design_rationale": (
        "A small sentence encoder was chosen since messages are short and written in variants that lists of words do not catch; its six "
        "layers run on ordinary processors. A threshold of one half was fixed before any result, so that it owes nothing to the data."
    ),
    "human_oversight": "Messages taken for spam are put aside, not deleted; users see them and can correct each one, and corrections are counted monthly.",
    "monitoring_plan": (
        "Monthly: the share of messages put aside and the share that users bring back, by length of message. The messaging team decides "
        "within ten working days on retraining or withdrawal when more than two in a hundred are brought back."
    ),
}

sms = cg.GovernedModel(
    key=service.MODEL,
    title="Spam in text messages",
    owner=OWNER,
    risk_tier="medium",
    frameworks=["nist-ai-rmf", "eu-gpai-art53"],
    framework_facts=FRAMEWORK_FACTS,
    intended_use=(
        "A demonstration: short English messages are put aside as spam or let through; users see what was put aside. The target "
        "“production” is the demonstration's own folder."
    ),
    out_of_scope="Deleting messages unseen; other languages; e-mail; deciding anything about the sender.",
    limitations=(
        "Trained on messages from before 2011 of British and Singaporean writers. Today's spam looks different. The messages say nothing "
        "about who wrote them: only messages with and without words of Singapore English are compared, a rough sign of a group of writers."
    ),
    failure_modes="Short spam without numbers or offers is missed; wanted messages that quote advertisements may be put aside.",
    protected_attributes=(DIALECT,),
    sensor_interval_seconds=5,
)

PROVENANCE = cg.Provenance(
    source="UCI Machine Learning Repository 228: SMS Spam Collection (Almeida, Gómez Hidalgo), doi 10.24432/C5CC84",
    source_url="https://archive.ics.uci.edu/dataset/228/sms+spam+collection",
    owner=OWNER,
    licence="CC BY 4.0",
    attribution="Tiago A. Almeida and José María Gómez Hidalgo, SMS Spam Collection, UCI Machine Learning Repository, 2011",
    collected_to=date(2011, 12, 31),
    collected_how="From a public forum of complaints about spam, from volunteers and from a thesis; published for research",
    collected_by="Tiago A. Almeida and José María Gómez Hidalgo",
    intended_use="Research and teaching; here a demonstration",
    jurisdiction="United Kingdom and Singapore",
    contains_personal_data=True,
    classification="personal data",
    column_purposes={
        messages.KEY: "names the record; not a feature",
        messages.TEXT: "the message: the model's only input",
        messages.LABEL: "label: spam or ham",
    },
)

REASONS = {
    "random": "The published messages, split at random",
    "grouped": "Repeated messages dropped and split anew by groups, since the random split had variants of one message on both sides",
}


class SplitConfig(dg.Config):
    """How the messages are split. `messages`: only so many of them (0: all)."""

    method: str = "grouped"
    messages: int = 0


class TrainConfig(dg.Config):
    """How the model is trained. `tiny`: two layers of random weights in place of MiniLM."""

    tiny: bool = False
    epochs: float = 2.0
    batch_size: int = 16
    learning_rate: float = 5e-5


def data_folder(ledger: cg.LedgerResource) -> Path:
    """Where the example keeps its working data."""
    return ledger.open().home / "data" / service.MODEL


@dg.asset(
    group_name="sms_data",
    owners=[OWNER],
    kinds={"python"},
    code_version="1",
    description="The published messages, split into training and holdout: at random, or by groups of messages that are nearly the same.",
)
def sms_split(config: SplitConfig, ledger: cg.LedgerResource) -> dg.MaterializeResult:
    """Read the published messages and split them."""
    found = messages.take(messages.load_messages(), config.messages or None, seed=SPLIT_SEED)
    how = {"random": messages.split_random, "grouped": messages.split_grouped}
    if config.method not in how:
        raise dg.Failure(f"method: expected random or grouped, got {config.method!r}", allow_retries=False)
    split = how[config.method](found, seed=SPLIT_SEED)
    folder = data_folder(ledger)
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("sms_train", split.train), ("sms_holdout", split.holdout)):
        temporary = folder / f".{name}.parquet.new"
        columns = {
            column: [getattr(item, column) for item in part] for column in (messages.KEY, messages.TEXT, messages.LABEL)
        }
        pq.write_table(pa.table(columns), temporary)
        temporary.replace(folder / f"{name}.parquet")
    facts = split.to_facts()
    (folder / "split.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return dg.MaterializeResult(metadata={"split": dg.MetadataValue.json(facts)})


def _source(ledger: cg.LedgerResource, name: str) -> cg.SnapshotSource:
    """The file of one side of the split, with the counts of every step that led to it."""
    folder = data_folder(ledger)
    facts = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    rules = [dict(rule) for rule in facts["rules"]]
    rules[-1]["rows_after"] = facts[name.removeprefix("sms_")]["rows"]
    provenance = cg.Provenance.model_validate({**PROVENANCE.to_dict(), "processing": rules})
    return cg.SnapshotSource(
        str(folder / f"{name}.parquet"), provenance=provenance, change_reason=REASONS[facts["method"]]
    )


@cg.dataset_snapshot(
    record_key=messages.KEY,
    label=messages.LABEL,
    provenance=PROVENANCE,
    deps=[sms_split],
    group_name="sms_data",
    owners=[OWNER],
    kinds={"parquet", "dataset"},
)
def sms_train(ledger: cg.LedgerResource) -> cg.SnapshotSource:
    """Training messages."""
    return _source(ledger, "sms_train")


@cg.dataset_snapshot(
    record_key=messages.KEY,
    label=messages.LABEL,
    provenance=PROVENANCE,
    deps=[sms_split],
    group_name="sms_data",
    owners=[OWNER],
    kinds={"parquet", "dataset"},
)
def sms_holdout(ledger: cg.LedgerResource) -> cg.SnapshotSource:
    """Holdout messages, kept apart from training."""
    return _source(ledger, "sms_holdout")


no_overlap = cg.overlap_check(
    train="sms_train",
    holdout="sms_holdout",
    columns=[messages.TEXT],
    levels=["exact", "normalised", "ngram", "near-duplicate"],
)


@cg.training_run(sms, datasets=["sms_train"], deps=["sms_holdout"])
def sms_model(
    run: cg.TrainingRecorder, sms_train: cg.Snapshot, version: str, config: TrainConfig, ledger: cg.LedgerResource
) -> Path:
    """MiniLM with a new layer for two labels, all weights trained. Waits for the holdout, so that leakage stops it before it costs."""
    from cognify_dagster.instrument.huggingface import CognifyCallback

    rows = sms_train.table().to_pylist()
    work = data_folder(ledger) / "training" / f"{version}-{_free(data_folder(ledger) / 'training', version)}"
    start = base.make_tiny(work / "base", [row[messages.TEXT] for row in rows]) if config.tiny else base.minilm_folder()
    known = base.TINY if config.tiny else base.MINILM
    run.note_selection(
        "Settings common for fine-tuning small encoders, fixed before training; no other configuration was tried on these data. "
        "Of the epochs, the one with the lowest loss on the validation part counts."
    )
    settings = FineTuneConfig(epochs=config.epochs, batch_size=config.batch_size, learning_rate=config.learning_rate)
    fine_tune(rows, start, work / "out", settings, CognifyCallback(run, base_model={**known, "path": start}))
    return run.models[-1].path


def _free(folder: Path, version: str) -> int:
    """The first number of an attempt that has no folder: a retry leaves the files of the first one alone."""
    return next(number for number in range(1, 10_000) if not (folder / f"{version}-{number}").exists())


@cg.eval_suite(sms, dataset="sms_holdout", gates="sms_gates")
def sms_eval(sms_model: cg.ModelVersion, sms_holdout: cg.Snapshot) -> cg.EvalResult:
    """What the filter catches and blocks, with intervals, by length and content, and with typing errors."""
    return evaluate_spam(sms_model.path, sms_holdout.table().to_pylist())


@cg.governed_deployment(sms, target=service.TARGET)
def sms_filter(release: cg.Release, ledger: cg.LedgerResource) -> dict[str, str]:
    """Installs the released model where the filter picks it up."""
    place = service.install(release.model_path, release.model_digest, service.service_folder(ledger.open()))
    return {"location": str(place)}


defs = dg.Definitions.merge(
    dg.Definitions(
        assets=[sms_split, sms_train, sms_holdout],
        asset_checks=[no_overlap],
        resources={"ledger": cg.LedgerResource(workspace=".cognify")},
        executor=dg.in_process_executor,
    ),
    sms.build_defs(assets=[sms_model, sms_eval, sms_filter]),
)
