"""Documents: frameworks, coverage, the compliance package, its PDF, the model card and the bundle."""

from cognify_dagster.documents.coverage.engine import CoverageReport, assess_coverage
from cognify_dagster.documents.errors import DocumentError, FrameworkError, RenderError
from cognify_dagster.documents.facts.version import VersionFacts, collect
from cognify_dagster.documents.frameworks.loading import Framework, framework_ids, load_framework, template_root
from cognify_dagster.documents.html.rendering import render_html
from cognify_dagster.documents.outputs.model_card import render_model_card
from cognify_dagster.documents.package.building import build_package, package_digest, package_schema, read_package
from cognify_dagster.documents.package.bundle import export_bundle
from cognify_dagster.documents.package.recording import (
    BuiltPackage,
    build_and_record,
    record_final_copy,
    signature_rows,
)
from cognify_dagster.documents.pdf.rendering import build_final_copy, render_pdf

__all__ = [
    "BuiltPackage",
    "CoverageReport",
    "DocumentError",
    "Framework",
    "FrameworkError",
    "RenderError",
    "VersionFacts",
    "build_and_record",
    "build_final_copy",
    "build_package",
    "collect",
    "assess_coverage",
    "export_bundle",
    "framework_ids",
    "load_framework",
    "package_digest",
    "package_schema",
    "read_package",
    "record_final_copy",
    "render_html",
    "render_model_card",
    "render_pdf",
    "signature_rows",
    "template_root",
]
