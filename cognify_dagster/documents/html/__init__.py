"""A package as a web page: one file that loads nothing and runs nothing."""

from cognify_dagster.documents.html.rendering import render_html

__all__ = ["render_html"]
