"""Near-duplicates beside datasketch, and shared 13-grams beside plain Python sets: speed, memory, recall and false hits.

Each case is a process of its own on the same two files, so that memory can be told apart; reading them is not timed. A tenth of the
corpus is the holdout: 5 % exact copies, 5 % copies with about 4 % of the words changed, the rest unrelated. datasketch gets
the same shingles, permutations and bands, the faster hash (xxh3) besides its own, and the same exact comparison of its candidates.
It is installed with pip into an environment of its own below the cache.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import venv
from itertools import accumulate
from pathlib import Path

from benchmarks.ledger.harness import Options, Result, Row, ratio

DOCUMENTS = 100_000
BASELINE = ("datasketch==2.0.0", "xxhash==3.6.0")
ROOT = Path(__file__).parents[2]

_OURS = """
import json, resource, sys, time
import pyarrow as pa
from cognify_dagster.datasets import OverlapOptions, check_overlap
holdout, train = (open(path, encoding="utf-8").read().split("\\n") for path in sys.argv[1:3])
sides = [pa.table({"text": part}) for part in (holdout, train)]
check_overlap(sides[0].slice(0, 1), sides[1].slice(0, 1), OverlapOptions(levels=(sys.argv[3],)))  # what is imported late
start = time.perf_counter()
found = check_overlap(*sides, OverlapOptions(levels=(sys.argv[3],)), roots=("", ""))
seconds = time.perf_counter() - start
pairs = [(m.holdout_row, row) for m in found.levels[0].matches for row in m.train_rows]
print(json.dumps({"seconds": seconds, "pairs": pairs, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""
_DATASKETCH = """
import json, resource, sys, time
import xxhash
from datasketch import MinHash, MinHashLSH
holdout, train = (open(path, encoding="utf-8").read().split("\\n") for path in sys.argv[1:3])
options = {} if sys.argv[3] == "sha1" else {"hashfunc": xxhash.xxh32_intdigest}
def shingles(text):
    words = text.lower().split()
    return {" ".join(words[i:i + 3]).encode() for i in range(max(len(words) - 2, 1))}
def signature(parts):
    found = MinHash(num_perm=128, seed=1, **options)
    found.update_batch(parts)
    return found
start = time.perf_counter()
index = MinHashLSH(num_perm=128, params=(32, 4))
held = [shingles(text) for text in holdout]
for row, parts in enumerate(held):
    index.insert(row, signature(parts))
pairs = []
for row, text in enumerate(train):
    parts = shingles(text)
    for other in index.query(signature(parts)):
        if len(parts & held[other]) / len(parts | held[other]) >= 0.6:
            pairs.append((other, row))
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "pairs": pairs, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""
_PLAIN_GRAMS = """
import json, resource, string, sys, time
holdout, train = (open(path, encoding="utf-8").read().split("\\n") for path in sys.argv[1:3])
table = str.maketrans("", "", string.punctuation)
def grams(text):
    words = text.lower().translate(table).split()
    return {tuple(words[i:i + 13]) for i in range(max(len(words) - 12, 1))}
start = time.perf_counter()
index = {}
for row, text in enumerate(holdout):
    for gram in grams(text):
        index.setdefault(gram, []).append(row)
pairs = set()
for row, text in enumerate(train):
    for gram in grams(text):
        for other in index.get(gram, ()):
            pairs.add((other, row))
seconds = time.perf_counter() - start
pairs = sorted(pairs)
print(json.dumps({"seconds": seconds, "pairs": pairs, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def near_duplicates(options: Options) -> Result:
    """MinHash with exact confirmation beside datasketch with the same parameters."""
    documents = 5_000 if options.quick else DOCUMENTS
    holdout, train = _corpus(options.folder, documents)
    python = _environment(options.cache)
    cases = {
        "ours": (Path(sys.executable), _OURS, "near-duplicate"),
        "datasketch": (python, _DATASKETCH, "sha1"),
        "datasketch with xxh": (python, _DATASKETCH, "xxh"),
    }
    runs = _runs(options, cases, holdout, train)
    wanted, similarity = _planted(holdout, train)
    got = {tuple(pair) for pair in runs["ours"][-1]["pairs"]}
    recall = len(got & wanted) / len(wanted)
    false = sum(similarity(*pair) < 0.6 for pair in got)
    seconds = {name: [run["seconds"] for run in done] for name, done in runs.items()}
    faster = min(ratio(seconds[name], seconds["ours"]) for name in ("datasketch", "datasketch with xxh"))
    return Result(
        f"near-duplicates, {documents:,} documents",
        "≥ 4× datasketch; recall of planted ≥ 0.95; no false hit",
        f"{faster:.1f}×; recall {recall:.4f} of {len(wanted)}; {false} false hits",
        None if options.quick else faster >= 4 and recall >= 0.95 and not false,
        [*_lines(runs, documents), f"exact copies and pairs with Jaccard ≥ 0.6 planted: {len(wanted)}"],
    )


def ngram(options: Options) -> Result:
    """Shared 13-grams beside an index of tuples in plain Python."""
    documents = 5_000 if options.quick else DOCUMENTS
    holdout, train = _corpus(options.folder, documents)
    cases = {
        "ours": (Path(sys.executable), _OURS, "ngram"),
        "plain Python": (Path(sys.executable), _PLAIN_GRAMS, ""),
    }
    runs = _runs(options, cases, holdout, train)
    got, known = ({tuple(pair) for pair in runs[name][-1]["pairs"]} for name in ("ours", "plain Python"))
    faster = ratio(*([run["seconds"] for run in runs[name]] for name in ("plain Python", "ours")))
    same = {held for held, _ in got} == {held for held, _ in known} and got <= known
    return Result(
        f"13-grams, {documents:,} documents",
        "≥ 1.5× plain Python sets; the same holdout records",
        f"{faster:.1f}×; {'the same' if same else 'OTHER'} {len({held for held, _ in got})} holdout records",
        None if options.quick else faster >= 1.5 and same,
        _lines(runs, documents),
    )


def _lines(runs: dict[str, list[dict[str, object]]], documents: int) -> list[str]:
    out = []
    for name, done in runs.items():
        seconds = statistics.median(float(str(run["seconds"])) for run in done)
        mib = max(float(str(run["mib"])) for run in done)
        out.append(
            f"{name}: {documents / seconds:,.0f} documents/s, at most {mib:,.0f} MiB, {len(done[-1]['pairs']):,} pairs"
        )  # type: ignore[arg-type]
    return out


def _runs(
    options: Options, cases: dict[str, tuple[Path, str, str]], holdout: Path, train: Path
) -> dict[str, list[dict[str, object]]]:
    """Every case in turn, in the opposite order each time."""
    found: dict[str, list[dict[str, object]]] = {name: [] for name in cases}
    for repeat in range(1 if options.quick else 3):  # datasketch takes minutes
        for name in list(cases) if repeat % 2 == 0 else reversed(list(cases)):
            python, code, word = cases[name]
            done = subprocess.run(
                [str(python), "-c", code, str(holdout), str(train), word],
                capture_output=True,
                text=True,
                cwd=ROOT,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
            found[name].append(json.loads(done.stdout))
    return found


def _environment(cache: Path) -> Path:
    """The Python of an environment with the baseline, made once."""
    folder = cache / "datasketch-2.0.0"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *BASELINE], check=True)
        (folder / "ready").touch()
    return python


def _corpus(folder: Path, documents: int) -> tuple[Path, Path]:
    """Documents of about 200 characters; words are as frequent as in a text (Zipf)."""
    rnd = random.Random(20_240_601)
    words = ["".join(rnd.choice("etaoinshrdlucmfw") for _ in range(rnd.randint(2, 9))) for _ in range(50_000)]
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(words))))

    def text() -> str:
        return " ".join(rnd.choices(words, cum_weights=weights, k=rnd.randint(25, 45)))

    train = [text() for _ in range(documents)]
    holdout = []
    for _ in range(documents // 10):
        dice = rnd.random()
        if dice >= 0.1:
            holdout.append(text())
            continue
        parts = rnd.choice(train).split()
        if dice >= 0.05:
            for at in range(len(parts)):
                if rnd.random() < 0.04:
                    parts[at] = rnd.choice(words)
        holdout.append(" ".join(parts))
    paths = folder / "holdout.txt", folder / "train.txt"
    for path, lines in zip(paths, (holdout, train), strict=True):
        path.write_text("\n".join(lines), encoding="utf-8")
    return paths


def _planted(holdout: Path, train: Path):  # type: ignore[no-untyped-def]
    """All pairs with Jaccard ≥ 0.6, by an exact search, and the similarity of any pair."""
    held, rest = (
        [_shingles(text) for text in path.read_text(encoding="utf-8").split("\n")] for path in (holdout, train)
    )
    places: dict[tuple[str, ...], list[int]] = {}
    for row, parts in enumerate(held):
        for part in parts:
            places.setdefault(part, []).append(row)

    def similarity(one: int, other: int) -> float:
        return len(held[one] & rest[other]) / len(held[one] | rest[other])

    wanted = set()
    for row, parts in enumerate(rest):
        shared: dict[int, int] = {}
        for part in parts:
            for other in places.get(part, ()):
                shared[other] = shared.get(other, 0) + 1
        for other, count in shared.items():
            if count / (len(parts) + len(held[other]) - count) >= 0.6:
                wanted.add((other, row))
    return wanted, similarity


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[at : at + 3]) for at in range(max(len(words) - 2, 1))}


ROWS = [Row("near-duplicates", near_duplicates), Row("ngram", ngram)]
