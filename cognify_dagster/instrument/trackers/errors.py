"""What can go wrong with a run of another tool."""

from __future__ import annotations


class TrackerError(ValueError):
    """A run cannot be taken over as it is; the message names it and says what to do."""


class TrackerUnreachable(TrackerError):
    """The tool's store gives no answer, or none that can be read: nothing is known about the run."""


class RunNotFound(TrackerError):
    """The store answers, and has no such run."""
