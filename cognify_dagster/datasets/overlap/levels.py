"""Compares a holdout with a corpus at named levels: the holdout is indexed, the corpus streamed, memory follows the holdout.

Levels, from strict to wide:

* `exact`: all compared columns hold the same values; text byte for byte, numbers as numbers (1 and 1.0 are the same).
* `normalised`: the same after text was brought to NFKC, case-folded, and its white space collapsed.
* `ngram`: any 13 words in a row (8 to 13 as chosen) of the holdout record stand in the corpus record; shorter records as a whole.
* `near-duplicate`: Jaccard index of word 3-shingles at least the threshold, see `near`.

The last two compare text columns only. For personal data a key makes all digests in the report keyed; values are never reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError, TableError
from cognify_dagster.datasets.overlap.exact import _as_float, _plain, _value_kind
from cognify_dagster.datasets.overlap.hits import Units
from cognify_dagster.datasets.overlap.near import BAND_ROWS, BANDS, PERMUTATIONS, SHINGLE, NearIndex, miss_probability
from cognify_dagster.datasets.overlap.ngrams import NgramIndex
from cognify_dagster.datasets.overlap.reading import table_batches
from cognify_dagster.datasets.overlap.report import LevelResult, Match, OverlapFindings
from cognify_dagster.datasets.overlap.texts import WordBatch, is_text, normalise, pieces, row_texts, word_lists
from cognify_dagster.datasets.records.digests import RecordDigestAlgorithm, record_root, record_set, schema_id
from cognify_dagster.datasets.records.digests import select_columns as names_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

LEVELS = ("exact", "normalised", "ngram", "near-duplicate")
THRESHOLD = 0.6
MIN_THRESHOLD = 0.5
NGRAM = 13
SEED = 1


@dataclass(frozen=True)
class OverlapOptions:
    """How to compare.

    Attributes:
        levels: of `LEVELS`; chosen by the columns unless given (see `default_levels`).
        columns: the only columns to compare; all that are not ignored unless given.
        ignore: columns to leave out: record keys, labels.
        threshold: least Jaccard index of a near-duplicate, 0.5 to 1.
        ngram: words in a row, 8 to 13.
        seed: of hashes and permutations.
    """

    levels: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    threshold: float = THRESHOLD
    ngram: int = NGRAM
    seed: int = SEED

    def __post_init__(self) -> None:
        unknown = [name for name in self.levels or () if name not in LEVELS]
        if unknown:
            raise DatasetError(f"there is no overlap level {unknown[0]!r}; the levels are {', '.join(LEVELS)}")
        if self.levels is not None and not self.levels:
            raise DatasetError(f"no overlap level is named; the levels are {', '.join(LEVELS)}")
        if not MIN_THRESHOLD <= self.threshold <= 1:
            raise DatasetError(
                f"threshold {self.threshold} is not from {MIN_THRESHOLD} to 1; below, the search would overlook too many pairs"
            )
        if not 8 <= self.ngram <= NGRAM:
            raise DatasetError(f"ngram {self.ngram} is not from 8 to {NGRAM} words")
        if not 0 <= self.seed < 2**32:
            raise DatasetError(f"seed {self.seed} is not from 0 to {2**32 - 1}")


def check_overlap(
    holdout: Any,
    train: Any,
    options: OverlapOptions | None = None,
    *,
    key: bytes | None = None,
    roots: tuple[str, str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> OverlapFindings:
    """Find the records of a holdout that also stand in a corpus.

    Args:
        holdout: path, fsspec address or table; read whole.
        train: the same, or an iterable of Arrow tables or batches; streamed.
        options: how to compare.
        key: 32 secret bytes for keyed digests (personal data).
        roots: holdout's and corpus's snapshot roots, where they are known. Otherwise record roots are computed, for which
            32 bytes a corpus record are kept.
        storage_options: arguments for the fsspec filesystem.

    Raises:
        DatasetError: a source cannot be read, columns differ or have types that never match, or a level needs text columns.
    """
    import pyarrow as pa

    options = options or OverlapOptions()
    parts = list(table_batches(holdout, storage_options=storage_options))
    if not parts:
        raise TableError("the holdout has no records")
    table = pa.concat_tables(parts, promote_options="permissive")
    columns, texts = _columns(table, options)
    comparison = _Comparison(table, columns, texts, options, key, keep_root=roots is None)
    for batch in table_batches(train, storage_options=storage_options):
        comparison.add(batch)
    return comparison.findings(roots)


def default_levels(table: pa.Table, columns: Sequence[str], chosen: bool) -> tuple[str, ...]:
    """The levels where none are named: all if every compared column is text, or the user chose text among them.

    A table of numbers with a text column or two gets the exact levels only: one equal town does not make two records alike.
    """
    texts = [name for name in columns if is_text(table.schema.field(name).type)]
    if texts and (chosen or len(texts) == len(columns)):
        return LEVELS
    return LEVELS[:2] if texts else LEVELS[:1]


def _columns(table: pa.Table, options: OverlapOptions) -> tuple[list[str], list[str]]:
    """The compared columns, and those of them that hold text."""
    names = names_of(table, list(options.columns) if options.columns is not None else None)
    compared = [name for name in names if name not in options.ignore]
    if not compared:
        raise TableError("every column is left out, so nothing can be compared")
    return compared, [name for name in compared if is_text(table.schema.field(name).type)]


class _Comparison:
    def __init__(
        self,
        table: pa.Table,
        columns: list[str],
        texts: list[str],
        options: OverlapOptions,
        key: bytes | None,
        keep_root: bool,
    ) -> None:
        self.table, self.columns, self.texts, self.options, self.key = table, columns, texts, options, key
        self.levels = options.levels or default_levels(table, columns, options.columns is not None)
        if not texts and set(self.levels) - {"exact", "normalised"}:
            raise DatasetError(
                f"level {next(iter(set(self.levels) - {'exact', 'normalised'}))!r} compares text, and no compared column of the "
                "holdout holds any; ask for the level exact"
            )
        self.rows = 0
        self.units = {level: Units() for level in LEVELS if level in self.levels}
        self._shapes: dict[tuple[str, ...], dict[str, dict[bytes, int]]] = {}
        self._kept = bytearray() if keep_root else None
        self._digests: dict[int, str] = {}
        self._index_words()
        for level in ("exact", "normalised"):
            if level in self.units:
                for row, digest in enumerate(self._row_digests(self.table, level, frozenset())):
                    self.units[level].add(digest, row)

    # --- the holdout ---------------------------------------------------------------------------------------------------

    def _index_words(self) -> None:
        self._ngram: NgramIndex | None = None
        self._near: NearIndex | None = None
        wanted = [level for level in ("ngram", "near-duplicate") if level in self.units]
        if not wanted:
            return
        different: list[str] = []
        for row, words in enumerate(word_lists(row_texts(self.table, self.texts))):
            new = False
            for level in wanted:
                if not words:
                    self.units[level].skipped += 1
                else:
                    new = self.units[level].add(b" ".join(words), row)
            if new:
                different.append(b" ".join(words).decode())
        if not different:
            return
        batch = WordBatch.of(different, self.options.seed)
        if "ngram" in wanted:
            self._ngram = NgramIndex(batch, self.units["ngram"], self.options.ngram)
        if "near-duplicate" in wanted:
            self._near = NearIndex(batch, self.units["near-duplicate"], self.options.threshold, self.options.seed)

    # --- the corpus ----------------------------------------------------------------------------------------------------

    def add(self, batch: pa.Table) -> None:
        """Compare the next batch of the corpus."""
        if not batch.num_rows:
            return
        self._check_columns(batch)
        for level in ("exact", "normalised"):
            if level in self.units:
                self._same_records(batch, level)
        if self._ngram is not None or self._near is not None:
            for start, texts in pieces(row_texts(batch, self.texts)):
                words = WordBatch.of(texts, self.options.seed)
                for index in (self._ngram, self._near):
                    if index is not None:
                        index.search(words, self.rows + start)
        self._name(batch)
        if self._kept is not None:
            self._kept += b"".join(record_set(batch, self.columns, self.key).digests)
        self.rows += batch.num_rows

    def _check_columns(self, batch: pa.Table) -> None:
        chosen = self.options.columns is not None
        other = [name for name in names_of(batch, None) if name not in self.options.ignore]
        odd = set(self.columns) - set(other) if chosen else set(self.columns) ^ set(other)
        if odd:
            name = min(odd)
            raise TableError(f"holdout and train differ in column {name!r}; leave it out or give both the same columns")
        for name in self.texts:
            kind = batch.schema.field(name).type
            if not is_text(kind) and _value_kind(kind) != "null":
                raise TableError(
                    f"column {name!r} is text in holdout and {_value_kind(kind)} in train, so no record could ever match; "
                    "give both one type"
                )

    def _same_records(self, batch: pa.Table, level: str) -> None:
        floats = self._floats(batch)
        own, units = self._holdout_index(level, floats), self.units[level]
        for row, digest in enumerate(self._row_digests(batch, level, floats)):
            unit = own.get(digest)
            if unit is not None:
                units.hit(unit, self.rows + row)
                units.corpus_rows += 1

    def _floats(self, batch: pa.Table) -> frozenset[str]:
        """Columns that are compared as float64, since the two sides hold numbers of different kinds."""
        out = []
        for name in self.columns:
            kinds = [_value_kind(side.schema.field(name).type) for side in (self.table, batch)]
            if kinds[0] == kinds[1] or "null" in kinds:
                continue
            if not set(kinds) <= {"int", "float", "decimal"}:
                raise TableError(
                    f"column {name!r} is {kinds[0]} in holdout and {kinds[1]} in train, so no record could ever match; "
                    "give both one type"
                )
            out.append(name)
        return frozenset(out)

    def _holdout_index(self, level: str, floats: frozenset[str]) -> dict[bytes, int]:
        """The holdout's digests with these columns as floats, each with its unit. Files of one corpus rarely differ in type."""
        shape = (level, *sorted(floats))
        if shape not in self._shapes:
            plain = self._row_digests(self.table, level, frozenset())
            cast = self._row_digests(self.table, level, floats) if floats else plain
            index: dict[bytes, int] = {}
            for before, after in zip(plain, cast, strict=True):
                unit = self.units[level].unit_of(before)
                if unit is not None:
                    index.setdefault(after, unit)
            self._shapes[shape] = index  # type: ignore[assignment]
        return self._shapes[shape]  # type: ignore[return-value]

    def _row_digests(self, table: pa.Table, level: str, floats: frozenset[str]) -> list[bytes]:
        import pyarrow as pa

        table = table.select(self.columns)
        for position, name in enumerate(self.columns):
            if name in floats:
                try:
                    table = table.set_column(position, name, _as_float(_plain(table.column(position))))
                except pa.ArrowInvalid as exc:
                    raise TableError(
                        f"column {name!r} holds integers that a float cannot hold exactly; give both one type"
                    ) from exc
            elif level == "normalised" and name in self.texts:
                values = _plain(table.column(position)).to_pylist()
                folded = [None if value is None else normalise(value) for value in values]
                table = table.set_column(position, name, pa.array(folded, pa.large_string()))
        return list(record_set(table, None, self.key).digests)

    def _name(self, batch: pa.Table) -> None:
        """Keep the digests of corpus records that a unit names."""
        named = set[int]().union(*(units.fresh for units in self.units.values())) - self._digests.keys()
        for units in self.units.values():
            units.fresh.clear()
        if named:
            rows = sorted(named)
            found = record_set(batch.take([row - self.rows for row in rows]), None, self.key).digests
            self._digests.update((row, digest.hex()) for row, digest in zip(rows, found, strict=True))

    # --- the result ----------------------------------------------------------------------------------------------------

    def findings(self, roots: tuple[str, str] | None) -> OverlapFindings:
        """What all batches together gave."""
        if not self.rows:
            raise TableError("the training data has no records")
        algorithm = RecordDigestAlgorithm.SHA256 if self.key is None else RecordDigestAlgorithm.HMAC_SHA256
        own = [digest.hex() for digest in record_set(self.table, None, self.key).digests]
        if self._kept is not None:
            held = record_set(self.table, self.columns, self.key).root().hex()
            kept = bytes(self._kept)
            digests = [kept[at : at + 32] for at in range(0, len(kept), 32)]
            roots, kind = (held, record_root(digests, algorithm, schema_id(self.columns)).hex()), "record"
        else:
            kind = "snapshot"
        assert roots is not None
        return OverlapFindings(
            holdout_root=roots[0],
            train_root=roots[1],
            roots=kind,
            holdout_count=self.table.num_rows,
            train_count=self.rows,
            compared_columns=tuple(self.columns),
            text_columns=tuple(self.texts) if self._ngram or self._near else (),
            excluded_columns=tuple(sorted(set(self.options.ignore), key=str.encode)),
            digest=algorithm.label,
            levels=tuple(self._level(level, units, own) for level, units in self.units.items()),
        )

    def _level(self, level: str, units: Units, own: list[str]) -> LevelResult:
        matches = tuple(
            Match(row, own[row], tuple(seen), tuple(self._digests[other] for other in seen), max(seen.values()))
            for row, seen in units.pairs()
        )
        return LevelResult(
            level=f"{self.options.ngram}-gram" if level == "ngram" else level,
            overlap_holdout=len(matches),
            overlap_train=units.corpus_rows,
            fraction=len(matches) / self.table.num_rows,
            not_compared=units.skipped,
            parameters=self._parameters(level),
            matches=matches,
        )

    def _parameters(self, level: str) -> dict[str, Any]:
        text = {"form": "NFKC, case-folded, white space collapsed"}
        if level == "exact":
            return {"form": "values as they are; numbers compared as numbers"}
        if level == "normalised":
            return text
        words = {"form": f"{text['form']}, punctuation deleted", "seed": self.options.seed}
        if level == "ngram":
            return words | {"n": self.options.ngram, "shorter_records": "compared as a whole"}
        return words | {
            "threshold": self.options.threshold,
            "shingle_words": SHINGLE,
            "permutations": PERMUTATIONS,
            "bands": BANDS,
            "band_rows": BAND_ROWS,
            "miss_probability_at_threshold": float(f"{miss_probability(self.options.threshold):.6g}"),
            "hits_confirmed_by": "exact Jaccard index",
        }
