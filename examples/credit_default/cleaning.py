"""Reads the source, drops repeated records, and splits what is left into training and holdout.

Every step is a pure function of its input and the seed, and says what it left out: rule, counts, and a digest of the rows.
The split orders groups of equal records by a SHA-256 of seed and content, so that it doesn't depend on row order, library
versions or the machine.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SOURCE_PATH = Path(__file__).with_name("data") / "taiwan_credit_default.csv.gz"

#: SHA-256 of the uncompressed CSV as published.
SOURCE_SHA256 = "7ded7d55f577d258bbaddc9d9d7a5ba82dfbd8909d7ff1ef0dcde632558d6d71"

KEY = "ID"
LABEL = "DEFAULT"
DEMOGRAPHICS = ("SEX", "EDUCATION", "MARRIAGE", "AGE")
PAYMENT_STATUS = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
COLUMNS: tuple[str, ...] = (
    KEY,
    "LIMIT_BAL",
    *DEMOGRAPHICS,
    *PAYMENT_STATUS,
    *(f"BILL_AMT{month}" for month in range(1, 7)),
    *(f"PAY_AMT{month}" for month in range(1, 7)),
    LABEL,
)

#: The values that the source's description explains.
DOCUMENTED_CODES: dict[str, frozenset[int]] = {
    "SEX": frozenset({1, 2}),
    "EDUCATION": frozenset({1, 2, 3, 4}),
    "MARRIAGE": frozenset({1, 2, 3}),
    **{column: frozenset({-1, *range(1, 10)}) for column in PAYMENT_STATUS},
}

_MAX_SOURCE_BYTES = 64 * 1024 * 1024


class CreditDataError(ValueError):
    """The source is not what this example expects; the message names file and column."""


@dataclass(frozen=True)
class Exclusion:
    """A rule that removed rows. ``excluded_digest``: ``sha256:`` over the removed rows as CSV, sorted by key."""

    rule: str
    description: str
    rows_before: int
    rows_after: int
    excluded_digest: str

    @property
    def excluded(self) -> int:
        """How many rows the rule removed."""
        return self.rows_before - self.rows_after


@dataclass(frozen=True)
class CleaningReport:
    """What cleaning did.

    Attributes:
        conflicting_groups: Groups of kept rows that agree in all but key and label.
        conflicting_rows: Rows in those groups; kept.
        undocumented_codes: For each column, rows with a value that the source does not explain; kept.
    """

    source_sha256: str
    rows_before: int
    rows_after: int
    exclusions: tuple[Exclusion, ...]
    conflicting_groups: int
    conflicting_rows: int
    undocumented_codes: dict[str, int]
    notes: tuple[str, ...]

    def to_facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class SplitReport:
    """How the rows were divided: seed, counts, default rates, and the rule in words."""

    rule: str
    seed: int
    holdout_fraction: float
    train_rows: int
    holdout_rows: int
    train_default_rate: float
    holdout_default_rate: float
    groups: int

    def to_facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def load_source(path: str | Path = SOURCE_PATH, *, expected_sha256: str | None = SOURCE_SHA256) -> pd.DataFrame:
    """Reads the published CSV, plain or gzip-compressed.

    Args:
        path: The file.
        expected_sha256: Digest of the uncompressed bytes; None reads a file of the same form without that check.

    Raises:
        CreditDataError: missing, not readable, another digest, or another form than expected.
    """
    import pandas as pd

    file = Path(path)
    try:
        raw = file.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(BytesIO(raw)) as stream:
                raw = stream.read(_MAX_SOURCE_BYTES + 1)
    except OSError as error:  # BadGzipFile is an OSError too
        raise CreditDataError(f"{file}: can't be read ({error.strerror or error})") from None
    except (EOFError, zlib.error) as error:
        raise CreditDataError(f"{file}: damaged gzip file ({error}); fetch it again") from None
    if len(raw) > _MAX_SOURCE_BYTES:
        raise CreditDataError(f"{file}: larger than {_MAX_SOURCE_BYTES} bytes; this is not the published file")
    digest = hashlib.sha256(raw).hexdigest()
    if expected_sha256 is not None and digest != expected_sha256:
        raise CreditDataError(
            f"{file}: SHA-256 of the CSV is {digest}, expected {expected_sha256}; the source was changed. "
            "Restore the published file, or give the new digest together with a reason for the change"
        )
    try:
        frame = pd.read_csv(BytesIO(raw), encoding="utf-8-sig")
    except (ValueError, UnicodeDecodeError) as error:
        raise CreditDataError(f"{file}: not readable as CSV in UTF-8 ({error})") from None
    frame.attrs["source_sha256"] = digest
    check_table(frame, name=str(file))
    return frame


def check_table(frame: pd.DataFrame, *, name: str = "table") -> None:
    """Checks columns, types, key and label.

    Raises:
        CreditDataError: names the column and what is wrong with it.
    """
    missing = [column for column in COLUMNS if column not in frame.columns]
    unknown = [str(column) for column in frame.columns if column not in COLUMNS]
    if missing or unknown:
        raise CreditDataError(f"{name}: missing columns {missing or 'none'}, unknown columns {unknown or 'none'}")
    if frame.empty:
        raise CreditDataError(f"{name}: holds no rows")
    for column in COLUMNS:
        if frame[column].dtype.kind not in "iu":
            raise CreditDataError(f"{name}: column {column} holds values that are not whole numbers, or empty cells")
    if not frame[LABEL].isin((0, 1)).all():
        raise CreditDataError(f"{name}: column {LABEL} holds values other than 0 and 1")
    repeated = frame.loc[frame[KEY].duplicated(), KEY]
    if len(repeated):
        raise CreditDataError(f"{name}: column {KEY} repeats {int(repeated.iloc[0])} ({len(repeated)} repeats in all)")


def rows_digest(frame: pd.DataFrame) -> str:
    """``sha256:`` and the digest of the rows as CSV: header, then rows sorted by key, ``,`` between, line feed after each."""
    ordered = frame.sort_values(KEY)[list(COLUMNS)]
    lines = [",".join(COLUMNS), *(",".join(map(str, row)) for row in ordered.itertuples(index=False, name=None))]
    return "sha256:" + hashlib.sha256(("\n".join(lines) + "\n").encode("ascii")).hexdigest()


def clean(frame: pd.DataFrame) -> tuple[pd.DataFrame, CleaningReport]:
    """Drops rows equal to an earlier one in everything but the key (the lowest key stays).

    Rows that agree in all but key and label are different clients as far as anyone can tell: they are kept and counted.

    Raises:
        CreditDataError: the table has not the expected form.
    """
    check_table(frame)
    source = str(frame.attrs.get("source_sha256", "not stated"))
    ordered = frame.sort_values(KEY)[list(COLUMNS)].reset_index(drop=True)
    repeated = ordered.duplicated([column for column in COLUMNS if column != KEY], keep="first")
    kept = ordered[~repeated].reset_index(drop=True)
    attributes = _attributes()
    conflicting = kept[kept.duplicated(attributes, keep=False)]
    groups = int(conflicting.groupby(attributes).ngroups) if len(conflicting) else 0
    undocumented = {
        column: int((~kept[column].isin(codes)).sum()) for column, codes in sorted(DOCUMENTED_CODES.items())
    }
    exclusion = Exclusion(
        rule="equal_apart_from_key",
        description=f"Rows equal to a row with a lower {KEY} in every other column are dropped; the lowest {KEY} stays.",
        rows_before=len(ordered),
        rows_after=len(kept),
        excluded_digest=rows_digest(ordered[repeated]),
    )
    notes = (
        f"{exclusion.excluded} rows dropped as exact duplicates apart from {KEY}.",
        f"{len(conflicting)} rows in {groups} groups agree in all but {KEY} and {LABEL}; kept, and never split "
        "between training and holdout.",
        "Values that the source does not explain are kept: "
        + (", ".join(f"{column} in {count} rows" for column, count in undocumented.items() if count) or "none")
        + ".",
    )
    return kept, CleaningReport(
        source_sha256=source,
        rows_before=len(ordered),
        rows_after=len(kept),
        exclusions=(exclusion,),
        conflicting_groups=groups,
        conflicting_rows=len(conflicting),
        undocumented_codes=undocumented,
        notes=notes,
    )


def split(
    frame: pd.DataFrame, *, seed: int = 2005, holdout_fraction: float = 0.3
) -> tuple[pd.DataFrame, pd.DataFrame, SplitReport]:
    """Divides the rows into training and holdout, with equal shares of each label in both.

    Rows that agree in all but key and label form one group and stay together, so no record lies on both sides.

    Args:
        frame: The cleaned table.
        seed: Another seed gives another split.
        holdout_fraction: Share of groups in the holdout, between 0 and 1.

    Returns:
        ``(train, holdout, report)``, both sorted by key.

    Raises:
        CreditDataError: the table has not the expected form, or one side would be empty.
    """
    check_table(frame)
    if not 0.0 < holdout_fraction < 1.0:
        raise CreditDataError(f"holdout_fraction: expected a share between 0 and 1, got {holdout_fraction}")
    ordered = frame.sort_values(KEY)[list(COLUMNS)].reset_index(drop=True)
    names = _group_names(ordered)
    labels: dict[str, set[int]] = {}
    for name, label in zip(names, ordered[LABEL], strict=True):
        labels.setdefault(name, set()).add(int(label))
    strata: dict[tuple[int, ...], list[str]] = {}
    for name, found in labels.items():
        strata.setdefault(tuple(sorted(found)), []).append(name)
    chosen: set[str] = set()
    for members in strata.values():
        members.sort(key=lambda name: _shuffle_key(seed, name))
        chosen.update(members[: round(len(members) * holdout_fraction)])
    in_holdout = [name in chosen for name in names]
    holdout = ordered[in_holdout].reset_index(drop=True)
    train = ordered[[not inside for inside in in_holdout]].reset_index(drop=True)
    if holdout.empty or train.empty:
        raise CreditDataError("split: one side would be empty; give more rows or another holdout_fraction")
    return (
        train,
        holdout,
        SplitReport(
            rule=(
                f"Groups of rows equal in all but {KEY} and {LABEL}, ordered within each label by SHA-256 of seed and content; "
                "the first share is the holdout."
            ),
            seed=seed,
            holdout_fraction=holdout_fraction,
            train_rows=len(train),
            holdout_rows=len(holdout),
            train_default_rate=float(train[LABEL].mean()),
            holdout_default_rate=float(holdout[LABEL].mean()),
            groups=len(labels),
        ),
    )


def take_records(frame: pd.DataFrame, max_records: int | None, *, seed: int) -> pd.DataFrame:
    """At most ``max_records`` rows, chosen by seed and content, sorted by key; all rows for None."""
    if max_records is None or max_records >= len(frame):
        return frame
    if max_records < 1:
        raise CreditDataError(f"max_records: expected at least 1, got {max_records}")
    keys = [_shuffle_key(seed, f"{key}") for key in frame[KEY]]
    first = sorted(range(len(keys)), key=keys.__getitem__)[:max_records]
    return frame.iloc[sorted(first)].sort_values(KEY).reset_index(drop=True)


def overlap_count(train: pd.DataFrame, holdout: pd.DataFrame) -> int:
    """Holdout rows that equal some training row in all but key and label."""
    in_training = set(_group_names(train))
    return sum(name in in_training for name in _group_names(holdout))


def _attributes() -> list[str]:
    return [column for column in COLUMNS if column not in (KEY, LABEL)]


def _group_names(frame: pd.DataFrame) -> list[str]:
    return [",".join(map(str, row)) for row in frame[_attributes()].itertuples(index=False, name=None)]


def _shuffle_key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode("ascii")).digest()
