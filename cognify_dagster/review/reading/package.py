"""The package page: what people read before they sign, in the order of an audit report.

Invariants: the package's bytes are fetched and hashed for every page that shows them, and compared with the ledger; what was rendered
from them is kept by their digest; where the version stands is decided for each page anew, from the same entries that the page names.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cognify_dagster.documents.coverage.blocking import held_back
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.html.recorded import signatures_of
from cognify_dagster.documents.html.rendering import sections_in
from cognify_dagster.documents.labels import words
from cognify_dagster.documents.package.recording import refusal_rows, waived_stages
from cognify_dagster.documents.view.whole import build_view
from cognify_dagster.governance import Decision, Reason, decide, directory
from cognify_dagster.governance.oversight.conditions import ENFORCED
from cognify_dagster.records import Evaluation, Package, ReleaseGranted, TrainingRun, VersionOpened
from cognify_dagster.review.access.verification import Standing, standing
from cognify_dagster.review.reading.board import Snapshot
from cognify_dagster.review.reading.comparison import (
    Comparison,
    compare,
    content_of,
    kept,
    my_last_approval,
    package_bytes,
    packages_of,
)
from cognify_dagster.review.reading.runs import Run, runs_of
from cognify_dagster.workspace import Reading, Recorded

if TYPE_CHECKING:
    from cognify_dagster.review.site import Site
    from cognify_dagster.review.visit import Visit

ORDER = (
    "Document control", "Coverage by requirement", "Evaluation", "Training and data", "Lineage", "Changes since the last release",
    "Findings", "Evidence register", "Sections written by people", "Attestations", "Signatures", "How long records are kept",
    "Entries about this version", "How this document was made", "Glossary",
)  # fmt: skip
"""The document's parts as the page shows them; others keep their place after these."""
MINE_BEFORE = "Findings"
"""What changed since the reader's own last approval comes before this part."""
_HEAD_S = 2.0
_APPROVING = ("approve", "approve_with_conditions")


@dataclass(frozen=True)
class Body:
    """What was rendered from a package and its sign-offs: the cover, and parts as (id, title, HTML)."""

    title: str
    subtitle: str
    stamp: str
    stamp_tone: str
    stamp_line: str
    basis: str
    identity: Markup
    verification: Markup
    notice: Markup
    parts: tuple[tuple[str, str, Markup], ...]


@dataclass(frozen=True)
class SignedRow:
    """A sign-off on the package that is shown, with the address of its receipt by entry number."""

    seq: int
    name: str
    role: str
    decision: str
    tone: str
    signed_at: str
    strength: str
    comments: str
    conditions: int
    stage: str
    meaning: str = ""
    behalf: str = ""


@dataclass(frozen=True)
class StageRow:
    """A stage of the version's tier: what it needs, where it stands, who signed, whom it waits for."""

    title: str
    needs: str
    word: str
    tone: str
    signed: tuple[SignedRow, ...]
    waits_for: str


@dataclass(frozen=True)
class Since:
    """What changed since the reader's own last approval: `seq` is its entry. `comparison` is None where it is this very package."""

    seq: int
    version: str
    revision: int
    signed_at: str
    comparison: Comparison | None
    problem: str = ""


@dataclass(frozen=True)
class PackagePage:
    """Everything that the page shows. `body` is None where the package cannot be shown, for the `problem`."""

    model: str
    version: str
    target: str
    package: Recorded[Package]
    newest: bool
    revisions: tuple[Recorded[Package], ...]
    head: Standing
    body: Body | None
    problem: str
    decision: Decision
    reasons: tuple[Reason, ...]
    stages: tuple[StageRow, ...]
    signed: tuple[SignedRow, ...]
    since: Since | None
    runs: tuple[tuple[str, Run], ...]
    built_by: str

    @property
    def digest(self) -> str:
        """SHA-256 of the package that is shown, `sha256:…`."""
        return self.package.record.package.digest

    @property
    def covered(self) -> bool:
        """Whether the head that carries the ledger's level covers the package's entry."""
        return self.package.seq < self.head.covered


def package_page(
    visit: Visit, snapshot: Snapshot, model: str, version: str, target: str, entry: int | None = None
) -> PackagePage | None:
    """Return the page of a version's package; None if it has none.

    Args:
        visit: whose own approvals are compared with.
        snapshot: the board, to find them.
        model: model key.
        version: version id.
        target: the deployment target that is asked about.
        entry: an earlier revision by its entry; the newest unless given.
    """
    site, reading = visit.site, visit.reading
    revisions = packages_of(reading, model, version)
    chosen = next((item for item in revisions if item.seq == entry), None) if entry is not None else None
    package = chosen or (revisions[-1] if revisions and entry is None else None)
    if package is None:
        return None
    decision = decide(reading, model, version, target, visit.now, enforces=ENFORCED)
    reasons = tuple(item for item in decision.reasons if item.code != "already_released")
    if decision.released:
        reasons += held_back(reading, decision, site.workspace.config.frameworks)
    signatures = signatures_of(reading, package)
    body, problem = None, ""
    try:
        body = body_of(site, reading, package, signatures)
    except DocumentError as error:
        problem = str(error)
    me = visit.user.person if visit.user is not None else None
    return PackagePage(
        model=model,
        version=version,
        target=target,
        package=package,
        newest=package is revisions[-1],
        revisions=tuple(revisions),
        head=head_of(site, reading),
        body=body,
        problem=problem,
        decision=decision,
        reasons=reasons,
        stages=tuple(_stages(decision, signatures)),
        signed=tuple(_signed(item) for item in signatures),
        since=_since(site, reading, snapshot, package, me) if me is not None else None,
        runs=tuple(_runs(site, reading, package)),
        built_by=directory(reading).name(package.record.built_by),
    )


def body_of(site: Site, reading: Reading, package: Recorded[Package], signatures: Sequence[dict[str, Any]]) -> Body:
    """Return the rendered package. Its bytes are hashed now; the rendering is kept by digest and sign-offs.

    Raises:
        DocumentError: if the package cannot be shown.
    """
    record, digest = package.record, package.record.package.digest
    data = package_bytes(site, package)
    subject = f"model/{record.model}@{record.version}"
    granted = [item for item in reading.all(ReleaseGranted, subject) if item.record.package_digest == digest]
    waived = waived_stages([item for item in granted if item.record.waived])
    final = bool(signatures or waived)
    refusals = refusal_rows(reading, subject, directory(reading)) if final else []
    facts = [[item["entry_leaf"] for item in signatures], waived, refusals]
    mark = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def make() -> Body:
        content = content_of(package, data)
        try:
            view, charts = build_view(
                content,
                copy="final" if final else "review",
                signatures=signatures if final else (),
                refusals=refusals if final else None,
                waived=waived if final else None,
                package_sha256=digest.removeprefix("sha256:"),
                verify_command="cognify verify BUNDLE --trust trust.txt",
                medium="screen",
            )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise DocumentError(f"the package does not fit its schema: {type(error).__name__}: {error}") from error
        return _render(site, view, charts)

    # the same bytes under another entry would be another package, or none
    key = ("body", subject, record.revision, digest, mark)
    return _unpacked(kept(site).get(site, key, lambda: _packed(make()), len))


def _packed(body: Body) -> bytes:
    """Rendered pages compress to a tenth, so that those of many versions stay at hand."""
    return zlib.compress(json.dumps(list(vars(body).values())).encode(), 1)


def _unpacked(data: bytes) -> Body:
    *texts, identity, verification, notice, parts = json.loads(zlib.decompress(data))
    title, subtitle, stamp, tone, line, basis = texts
    safe = Markup  # our own rendering, in which every value was escaped
    told = tuple((name, heading, safe(text)) for name, heading, text in parts)
    return Body(title, subtitle, stamp, tone, line, basis, safe(identity), safe(verification), safe(notice), told)


def head_of(site: Site, reading: Reading) -> Standing:
    """Return how far the ledger is proven; looked up anew after two seconds, or when it grew."""
    found: tuple[float, Standing] | None = site.state.get("reading.head")
    if found is None or found[1].size != reading.size or time.monotonic() - found[0] > _HEAD_S:
        found = site.state["reading.head"] = (time.monotonic(), standing(site, reading))
    return found[1]


def _render(site: Site, view: dict[str, Any], charts: dict[str, str]) -> Body:
    drawn = {name: Markup(svg) for name, svg in charts.items()}  # noqa: S704 (our own writer escapes)
    module: Any = site.templates.environment.get_template("blocks.html.j2").make_module({"charts": drawn})
    parts = [
        (part["id"], part["title"], Markup("").join(module.block(block) for block in part["blocks"]))
        for part in sections_in(view["blocks"])
    ]
    place = {title: number for number, title in enumerate(ORDER)}
    parts.sort(key=lambda part: place.get(part[1], len(ORDER)))
    cover = view["cover"]
    verification = [row for row in cover["verification"] if row[0] != "Seal of this file"]
    return Body(
        cover["title"],
        cover["subtitle"],
        cover["stamp"],
        cover["stamp-tone"],
        cover["stamp-line"],
        cover["basis"],
        module.pairs(cover["identity"]),
        module.pairs(verification),
        module.runs(cover["notice"]) if cover["notice"] else Markup(""),
        tuple(parts),
    )


def _signed(item: dict[str, Any]) -> SignedRow:
    decision = str(item["decision"])
    return SignedRow(
        item["entry_seq"], item["name"], words(str(item["role"])), words(decision),
        "good" if decision in _APPROVING else "plain" if decision == "acknowledge" else "bad", item["signed_at"], item["level"],
        item.get("comments") or "", len(item.get("conditions") or ()), item["stage"],
        str(item["meaning"]), str((item.get("on_behalf_of") or {}).get("name", "")),
    )  # fmt: skip


def _stages(decision: Decision, signatures: Sequence[dict[str, Any]]) -> list[StageRow]:
    by_seq = {item["entry_seq"]: item for item in signatures}
    next_stage, found = decision.next_stage, []
    for state in decision.stages:
        stage = state.stage
        if stage.kind == "automated":
            needs = ", ".join(words(gate) for gate in stage.gates)
            word = (
                "passed"
                if state.done
                else "not passed: "
                + ", ".join(f"{words(name)} ({status})" for name, status, _ in state.gates if status != "pass")
            )
        else:
            roles = " and ".join(f"{count} × {words(role)}" for role, count in stage.wanted.items())
            needs = f"{roles}, strength {stage.min_strength} or above"
            done = "signed" if not state.waived else f"waived by {words(state.by)}"
            word = done if state.done else "waits" if state is next_stage else "comes later"
        tone = "good" if state.done else "bad" if stage.kind == "automated" else "open"
        rows = tuple(_signed(by_seq[item.seq]) for item in state.signed if item.seq in by_seq)
        found.append(
            StageRow(stage.title or words(state.name), needs, word, tone, rows, " or ".join(state.waiting_for))
        )
    return found


def _since(site: Site, reading: Reading, snapshot: Snapshot, package: Recorded[Package], person: str) -> Since | None:
    last = my_last_approval(reading, snapshot, package.record.model, person)
    if last is None:
        return None
    item, before = last
    about = (item.seq, before.record.version, before.record.revision, item.record.signed_at)
    if before.record.package.digest == package.record.package.digest:
        return Since(*about, None)
    try:
        return Since(*about, compare(site, reading, before, package))
    except DocumentError as error:
        return Since(*about, None, str(error))


def _runs(site: Site, reading: Reading, package: Recorded[Package]) -> Iterator[tuple[str, Run]]:
    """Yield the runs that made the version and its package, each with what it did: `opened and trained it`."""
    subject = f"model/{package.record.model}@{package.record.version}"
    opened, trained = reading.latest(VersionOpened, subject), reading.latest(TrainingRun, subject)
    evaluated = reading.latest(Evaluation, subject)
    did: dict[str, tuple[Run, list[str]]] = {}
    for what, item in (("opened", opened), ("trained", trained), ("evaluated", evaluated), ("packaged", package)):
        for run in runs_of(item.record if item is not None else None, site.config.dagster_url):
            did.setdefault(run.id, (run, []))[1].append(what)
    for run, found in did.values():
        yield " and ".join(filter(None, (", ".join(found[:-1]), found[-1]))) + " it", run
