"""The demo code location. It only names the example; see examples/credit_default/definitions.py."""

from examples.credit_default.definitions import defs

__all__ = ["defs"]
