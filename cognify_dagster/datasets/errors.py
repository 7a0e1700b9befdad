"""The errors of the datasets room. Every message names the file, column or entry and says what to do."""

from __future__ import annotations


class DatasetError(ValueError):
    """Something about a dataset, its source or its description does not hold."""


class SourceError(DatasetError):
    """A source is missing, unreadable, empty, or holds something that cannot be part of a dataset."""


class SourceChangedError(SourceError):
    """A file changed while it was being read, so no digest of it can be evidence."""


class SilentChangeError(SourceChangedError):
    """A file has other content than when it was last hashed, although nothing in its stat says so."""


class TableError(DatasetError):
    """A file or object cannot be read as a table, or a column has a type without canonical bytes."""


class DuplicateKeyError(DatasetError):
    """Two records carry the same record key, or a record carries none."""


class ManifestError(DatasetError):
    """A manifest is damaged, or does not belong to the snapshot it is shown with."""


class ProofError(DatasetError):
    """A membership or absence proof does not hold."""
