"""Calls a user's function with what its parameters ask for, and gives Dagster a function with a signature it understands."""

import hashlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.spaces import RESOURCE, Space

__all__ = ["UsageError", "UserFunction", "compute_function", "read_function"]


@dataclass(frozen=True)
class UserFunction:
    """A user's function and its parameters, split by who provides them."""

    function: Callable[..., Any]
    governed: tuple[str, ...]
    passed_through: Mapping[str, Any]
    context: str | None

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def code_version(self) -> str:
        """A digest of the function's source; Dagster would otherwise take the run id as code version."""
        try:
            source = inspect.getsource(self.function)
        except (OSError, TypeError):
            source = self.function.__qualname__
        return hashlib.sha256(source.encode()).hexdigest()[:16]

    @property
    def description(self) -> str | None:
        """The function's docstring."""
        return inspect.getdoc(self.function)

    def call(self, context: Any, passed: Mapping[str, Any], governed: Mapping[str, Any]) -> Any:
        """Call the function with context, passed-through resources and governed inputs."""
        arguments = {**passed, **{name: governed[name] for name in self.governed}}
        if self.context is not None:
            arguments[self.context] = context
        return self.function(**arguments)


def read_function(function: Callable[..., Any], governed: Mapping[str, Any]) -> UserFunction:
    """Split a function's parameters.

    Args:
        function: the user's function.
        governed: names that the decorator can provide, with the type a parameter of any other name may be annotated with
            to receive it.

    Raises:
        UsageError: naming a parameter that nobody can provide.
    """
    try:
        hints = typing.get_type_hints(function)
    except Exception:
        hints = dict(function.__annotations__)
    own: list[str] = []
    through: dict[str, Any] = {}
    context = None
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name)
        if name == "context" or hint in (dg.AssetExecutionContext, dg.OpExecutionContext):
            context = name
        elif name in governed:
            own.append(name)
        elif _is_resource_or_config(hint):
            through[name] = hint
        elif parameter.default is inspect.Parameter.empty:
            known = ", ".join(sorted(governed)) or "none"
            raise UsageError(
                f"{function.__name__}: parameter {name!r} cannot be provided. Governed inputs here: {known}; others must be "
                "annotated as a Dagster resource or Config"
            )
    return UserFunction(function, tuple(own), through, context)


def _is_resource_or_config(hint: Any) -> bool:
    if typing.get_origin(hint) is not None:
        return getattr(typing.get_origin(hint), "__name__", "") == "ResourceParam" or "ResourceParam" in str(hint)
    return isinstance(hint, type) and issubclass(hint, (dg.ConfigurableResource, dg.Config))


def compute_function(
    user: UserFunction,
    body: Callable[[Any, LedgerResource, Mapping[str, Any]], Any],
    *,
    name: str,
    space: Space | None = None,
) -> Callable[..., Any]:
    """Return a generator function `(context, <the space's ledger>, <the user's resources and config>)` for Dagster.

    A user's function that asks for `ledger` gets that of its space.
    """
    where = space or Space()

    def compute(context: dg.AssetExecutionContext, **passed: Any) -> Any:
        given = {key: value for key, value in passed.items() if key in user.passed_through}
        ledger = where.checked(passed[where.ledger])
        if RESOURCE in user.passed_through:
            given[RESOURCE] = ledger
        yield from body(context, ledger, given)

    parameters = [
        inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=dg.AssetExecutionContext),
        inspect.Parameter(where.ledger, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=LedgerResource),
    ]
    for key, hint in user.passed_through.items():
        if key not in (RESOURCE, where.ledger):
            parameters.append(inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=hint))
    compute.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    compute.__annotations__ = {item.name: item.annotation for item in parameters}
    compute.__name__ = name
    compute.__qualname__ = name
    compute.__doc__ = user.description
    return compute
