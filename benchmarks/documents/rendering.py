"""A package of thirty pages as PDF, in HTML, and sealed."""

from __future__ import annotations

import hashlib
import io
import statistics
from pathlib import Path

from benchmarks.documents.world import packaged, processor_time, seconds
from benchmarks.ledger.harness import Options, Result, Row, interleave, ratio
from cognify_dagster.documents import read_package, render_html, render_pdf
from cognify_dagster.documents.pdf.rendering import run_typst
from cognify_dagster.documents.pdf.seal import Seal, create_seal, seal_pdf
from cognify_dagster.ledger import canonical_json

LIMIT_PDF_S, LIMIT_SEAL_S = 0.6, 0.1
_ONE_PAGE = {"package.typ": b'#set document(title: "t")\n#set text(lang: "en")\n= One page\nNothing else.'}


def pages_of(pdf: bytes) -> int:
    """Count the pages."""
    import pikepdf

    with pikepdf.open(io.BytesIO(pdf)) as opened:
        return len(opened.pages)


def _pdf(options: Options) -> Result:
    _, package = packaged(options.folder)
    data = canonical_json(package)
    pages = pages_of(render_pdf(package, copy="review"))
    ours, baseline = interleave(
        options.repeats,
        [
            lambda: seconds(lambda: render_pdf(read_package(data), copy="review")),
            lambda: seconds(lambda: run_typst(_ONE_PAGE, {}, 0)),
        ],
    )
    median = statistics.median(ours)
    return Result(
        f"PDF/A-3a and PDF/UA-1 of a package, {pages} pages, {len(data) // 1024} KiB of JSON, child process included, warm",
        f"≤ {LIMIT_PDF_S} s",
        f"{median:.2f} s; {ratio(ours, baseline):.1f} × one page in the same child",
        None if options.quick else median <= LIMIT_PDF_S and pages >= 30,
        [
            f"one page in the same child: {statistics.median(baseline):.2f} s",
            f"processor time, all threads: {processor_time(lambda: render_pdf(read_package(data), copy='review')):.2f} s",
        ],
    )


def _html(options: Options) -> Result:
    _, package = packaged(options.folder)
    data = canonical_json(package)
    size = len(render_html(package).encode())
    ours, baseline = interleave(
        options.repeats,
        [
            lambda: seconds(lambda: render_html(read_package(data))),
            lambda: seconds(lambda: render_pdf(read_package(data), copy="review")),
        ],
    )
    return Result(
        f"the same package as HTML, {size // 1024} KiB, charts included",
        "no goal",
        f"{statistics.median(ours):.2f} s; {ratio(ours, baseline):.2f} × the PDF",
        None,
    )


def _seal(options: Options) -> Result:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    _, package = packaged(options.folder)
    pdf = render_pdf(package, copy="final")
    key, certificate = Path(options.folder, "seal.key"), Path(options.folder, "seal.crt")
    create_seal(key, certificate, "Bench")
    seal = Seal(key, certificate)
    bare = ec.generate_private_key(ec.SECP256R1())

    def baseline_work() -> None:
        bare.sign(hashlib.sha256(pdf).digest(), ec.ECDSA(hashes.SHA256()))

    ours, baseline = interleave(
        options.repeats, [lambda: seconds(lambda: seal_pdf(pdf, seal)), lambda: seconds(baseline_work)]
    )
    median = statistics.median(ours)
    return Result(
        f"PAdES seal (B-B, P-256) of that PDF, {len(pdf) // 1024} KiB",
        f"≤ {LIMIT_SEAL_S} s",
        f"{median * 1e3:.0f} ms; {ratio(ours, baseline):.0f} × bare SHA-256 and ECDSA over the same bytes",
        None if options.quick else median <= LIMIT_SEAL_S,
        [
            f"bare hash and signature: {statistics.median(baseline) * 1e3:.2f} ms",
            f"processor time: {processor_time(lambda: seal_pdf(pdf, seal)) * 1e3:.0f} ms",
        ],
    )


ROWS = [Row("pdf", _pdf), Row("html", _html), Row("seal", _seal)]
