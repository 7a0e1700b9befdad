"""Errors of the documents room."""

from __future__ import annotations


class DocumentError(ValueError):
    """A document cannot be made from what it was given; the message names the file, field or entry and what to do."""


class FrameworkError(DocumentError):
    """A framework file is wrong; the message names the file and the field."""


class RenderError(DocumentError):
    """A PDF could not be rendered; nothing was written."""


class SealError(DocumentError):
    """A final copy cannot be sealed, or a key or certificate for that cannot be used."""
