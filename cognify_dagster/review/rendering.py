"""Fills the templates under `templates/review`. Invariant: every value is escaped; text that people wrote is never a template."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.frameworks.loading import template_root

STATIC = Path(__file__).parent / "static"


class Templates:
    """The pages' templates; a file in the `review` folder of `override` replaces the shipped one of its name."""

    def __init__(self, override: Path | None = None) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        folders = [str(template_root() / "review")]
        if override is not None:
            folders.insert(0, str(override / "review"))
        self.environment = Environment(
            loader=FileSystemLoader(folders),
            undefined=StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters.update(
            utc=utc_text, day=day_text, short=short_digest, grouped=grouped_digest, urlpart=url_part
        )
        self.environment.globals.update(static=static_url, path=make_path)

    def render(self, name: str, /, **values: Any) -> str:
        """Fill a template.

        Raises:
            DocumentError: if it fails.
        """
        from jinja2 import TemplateError

        try:
            return self.environment.get_template(name).render(**values)
        except TemplateError as error:
            raise DocumentError(f"review/{name}: the page cannot be rendered: {error}") from error


def utc_text(value: datetime | int | float | str | None) -> str:
    """Show a time (a datetime, microseconds since 1970, or text as it is) as `2026-11-22 09:30:00 UTC`."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value.replace("T", " ").removesuffix("Z") + " UTC" if value.endswith("Z") else value
    if not isinstance(value, datetime):
        value = datetime.fromtimestamp(value / 1e6, timezone.utc)
    return value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def day_text(value: datetime | int | float | str | None) -> str:
    """Show the day of a time."""
    return utc_text(value)[:10]


def short_digest(value: str, characters: int = 12) -> str:
    """Show the first digits of a digest, without its algorithm."""
    return value.removeprefix("sha256:")[:characters]


def grouped_digest(value: str) -> str:
    """Show a digest in groups of eight, to be read aloud."""
    digits = value.removeprefix("sha256:")
    return " ".join(digits[start : start + 8] for start in range(0, len(digits), 8))


def url_part(value: object) -> str:
    """Quote text as one part of a path."""
    return quote(str(value), safe="")


def make_path(*parts: object, **query: object) -> str:
    """Return a path of quoted parts: `path("models", key, page=2)` is `/models/<key>?page=2`."""
    given = {key: str(value) for key, value in query.items() if value is not None}
    return "/" + "/".join(url_part(part) for part in parts) + ("?" + urlencode(given) if given else "")


@lru_cache(maxsize=64)
def static_url(name: str) -> str:
    """Return the address of a static file, which changes with its content."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"
