"""Documents: frameworks, coverage, the compliance package, its PDF, the model card and the bundle."""

from cognify_dagster.documents.bundle import export_bundle
from cognify_dagster.documents.coverage import CoverageReport, coverage
from cognify_dagster.documents.errors import DocumentError, FrameworkError, RenderError
from cognify_dagster.documents.facts import VersionFacts, collect
from cognify_dagster.documents.frameworks import Framework, framework_ids, load_framework, template_root
from cognify_dagster.documents.model_card import render_model_card
from cognify_dagster.documents.package import build_package, package_digest, package_schema, read_package
from cognify_dagster.documents.pdf import build_final_copy, render_pdf
from cognify_dagster.documents.recording import BuiltPackage, build_and_record, record_final_copy, signature_rows

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
    "coverage",
    "export_bundle",
    "framework_ids",
    "load_framework",
    "package_digest",
    "package_schema",
    "read_package",
    "record_final_copy",
    "render_model_card",
    "render_pdf",
    "signature_rows",
    "template_root",
]
