"""Renders a package as PDF/A-3a and PDF/UA-1 with typst, in a child process, with the package attached.

Invariants: the template is a fixed file and data reaches it as JSON only, so no text of a package is ever executed; typst sees a
fresh folder with template, charts and package and nothing else; a warning, a missing glyph or a timeout is an error and gives no file;
the same package, copy and signatures give the same bytes. Signatures cover the package; a seal is added by `seal` afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cognify_dagster.documents.errors import DocumentError, RenderError
from cognify_dagster.documents.frameworks.loading import template_path
from cognify_dagster.documents.package.building import read_package
from cognify_dagster.documents.pdf.fonts import fonts_in_use
from cognify_dagster.documents.view.signatures import Copy
from cognify_dagster.documents.view.whole import DEFAULT_VERIFY_COMMAND, build_view
from cognify_dagster.ledger import canonical_json

STANDARDS = ["a-3a", "ua-1"]
TIMEOUT_S = 120
MEMORY_BYTES = 6 * 1024**3
CPU_S = 100
MAX_PDF_BYTES = 256 * 1024**2
TEMPLATE = "documents/package.typ"


def render_pdf(
    package: dict[str, Any],
    *,
    copy: Copy,
    signatures: Sequence[Mapping[str, Any]] = (),
    refusals: Sequence[Mapping[str, Any]] | None = None,
    waived: Mapping[str, str] | None = None,
    package_sha256: str = "",
    verify_command: str = DEFAULT_VERIFY_COMMAND,
    sealed_by: str = "",
    template_folder: str | Path | None = None,
) -> bytes:
    """Render a package.

    Args:
        package: what `build_package` returned, or `read_package` of its bytes.
        copy: "review" (empty boxes for signatures) or "final" (with the signatures given).
        signatures: for the final copy: `name, role, person, stage, decision, meaning, signed_at, method, level, key_id,
            statement_sha256, entry_seq`, and if there are any `comments`, `conditions`, `recorded_at`, `expires` and
            `on_behalf_of` (`person, name, entry_seq`).
        refusals: for the final copy: refused sign-offs and deployments of the version, `entry_seq, time, what, reasons`; None
            prints nothing about them.
        waived: for the final copy: stage id -> the sentence that stands in the place of its missing signature.
        package_sha256: hex digest that the caller expects the package to have; checked when given.
        verify_command: printed on the cover.
        sealed_by: the certificate that will seal the file, as the cover names it; empty for a file without a seal.
        template_folder: a folder whose `documents/package.typ` replaces the shipped one.

    Returns:
        PDF bytes, ending in a newline.

    Raises:
        DocumentError: if the package is not the expected one, or lacks a field.
        RenderError: if typst is not installed, warns, fails or takes too long.
    """
    body = canonical_json(package)
    digest = hashlib.sha256(body).hexdigest()
    if package_sha256 and package_sha256.removeprefix("sha256:") != digest:
        raise DocumentError(
            f"the package has SHA-256 {digest}, not {package_sha256}; it was changed after it was recorded"
        )
    try:
        view, charts = build_view(
            package,
            copy=copy,
            signatures=signatures,
            refusals=refusals,
            waived=waived,
            package_sha256=digest,
            verify_command=verify_command,
            sealed_by=sealed_by,
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DocumentError(f"the package does not fit its schema: {type(error).__name__}: {error}") from error
    created = datetime.strptime(package["created"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    files = {name: svg.encode() for name, svg in charts.items()}
    files |= {
        "package.json": body,
        "qr.svg": _qr(digest),
        "package.typ": template_path(TEMPLATE, template_folder).read_bytes(),
    }
    pdf = run_typst(files, {"view": json.dumps(view, ensure_ascii=False)}, int(created.timestamp()))
    return pdf + b"\n"  # typst ends at %%EOF; a later incremental seal needs the line to end


def build_final_copy(
    package: bytes,
    signatures: Sequence[Mapping[str, Any]],
    *,
    refusals: Sequence[Mapping[str, Any]] | None = None,
    waived: Mapping[str, str] | None = None,
    verify_command: str = DEFAULT_VERIFY_COMMAND,
    sealed_by: str = "",
) -> bytes:
    """Render the final copy: the same package with its signature page. `seal.seal_pdf` seals it afterwards.

    Args:
        package: the canonical package bytes that were signed.
        signatures, refusals, waived, sealed_by: see `render_pdf`.

    Raises:
        DocumentError, RenderError: see `render_pdf`.
    """
    return render_pdf(
        read_package(package),
        copy="final",
        signatures=signatures,
        refusals=refusals,
        waived=waived,
        verify_command=verify_command,
        sealed_by=sealed_by,
    )


def run_typst(
    files: Mapping[str, bytes],
    inputs: Mapping[str, str],
    timestamp: int,
    *,
    timeout_s: int = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    cpu_s: int = CPU_S,
    max_bytes: int = MAX_PDF_BYTES,
) -> bytes:
    """Render `package.typ` of a fresh folder with these files, in a child process that is stopped at any of the limits.

    Raises:
        RenderError: see `render_pdf`.
    """
    child = Path(__file__).with_name("_typst_child.py")
    fonts = fonts_in_use()
    with tempfile.TemporaryDirectory(prefix="cognify-pdf-") as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        job = {
            "root": folder,
            "main": "package.typ",
            "inputs": {"families": json.dumps(fonts.families), **inputs},
            "fonts": list(fonts.folders),
            "timestamp": timestamp,
            "standards": STANDARDS,
            "format": "pdf",
            "memory": memory_bytes,
            "cpu": cpu_s,
            "output": max_bytes,
        }
        environment = {
            key: value
            for key, value in os.environ.items()
            if key in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
        }
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(child)],
                input=json.dumps(job).encode(),
                capture_output=True,
                timeout=timeout_s,
                env=environment,
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RenderError(
                f"rendering took longer than {timeout_s} seconds and was stopped; nothing was written"
            ) from error
    message = done.stderr.decode("utf-8", "replace").strip()[:2000].replace(folder, "")
    if "No module named 'typst'" in message:
        raise RenderError("typst is not installed; install cognify-dagster[documents]")
    if done.returncode < 0:
        raise RenderError(
            f"rendering was stopped by the limits on memory ({memory_bytes} bytes) or processor time ({cpu_s} seconds); nothing was "
            f"written (signal {-done.returncode})"
        )
    if done.returncode != 0 or not done.stdout.startswith(b"%PDF-"):
        raise RenderError(f"the PDF could not be rendered (exit {done.returncode}): {message or 'no message'}")
    return done.stdout


def _qr(digest: str) -> bytes:
    try:
        import segno
    except ImportError as error:
        raise RenderError("segno is not installed; install cognify-dagster[documents]") from error
    import io

    stream = io.BytesIO()
    segno.make(f"urn:sha256:{digest}", error="m", micro=False).save(
        stream, kind="svg", border=2, xmldecl=False, scale=4
    )
    return stream.getvalue()
