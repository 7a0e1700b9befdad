"""Maps an event to what another system wants to read, by a template.

Invariants: templates come from the product or from the folder that the operator configured, never from the site's users; they run
in Jinja's sandbox; what comes out is JSON of bounded size, else nothing is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cognify_dagster.documents.frameworks.loading import template_root
from cognify_dagster.review.errors import ReviewError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_BODY = 64 * 1024
GENERIC = "generic"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def render_payload(event: Mapping[str, Any], message: str, template: str, override: Path | None = None) -> bytes:
    """Return the body of a delivery.

    Args:
        event: `type`, `timestamp`, `data`.
        message: the id, `msg_…`.
        template: name of a file `webhooks/NAME.json.j2`.
        override: the folder of `[review] templates`, whose files replace the shipped ones.

    Raises:
        ReviewError: if there is no such template, it fails, or what comes out is no JSON or too large.
    """
    from jinja2 import TemplateError, TemplateNotFound

    where = f"webhooks/{template}.json.j2"
    try:
        text = _environment(override).get_template(f"{template}.json.j2").render(id=message, event=event, **event)
    except TemplateNotFound as error:
        raise ReviewError(f"{where}: there is no such template; there are {', '.join(templates(override))}") from error
    except (TemplateError, ArithmeticError, TypeError, ValueError, RecursionError) as error:
        raise ReviewError(f"{where}: it cannot be rendered: {error}") from error
    try:
        body = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise ReviewError(f"{where}: what comes out is not JSON: {error}") from error
    if len(body) > MAX_BODY:
        raise ReviewError(f"{where}: what comes out has {len(body)} bytes; at most {MAX_BODY} are sent")
    return body


def templates(override: Path | None = None) -> list[str]:
    """Return the names of all templates."""
    found = {path.name.removesuffix(".json.j2") for folder in _folders(override) for path in folder.glob("*.json.j2")}
    return sorted(name for name in found if NAME.fullmatch(name))


def _folders(override: Path | None) -> list[Path]:
    return [*([override / "webhooks"] if override is not None else []), template_root() / "webhooks"]


@lru_cache(maxsize=4)
def _environment(override: Path | None) -> ImmutableSandboxedEnvironment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader([str(folder) for folder in _folders(override)]),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
