"""Reads a pickle as data, without running it.

PyTorch keeps the map of a distributed checkpoint (``.metadata``) and the description of every tensor as pickles. Unpickling runs
what the file says; whoever can write the file could run anything. This reader walks the opcodes itself:

* nothing is imported, called or instantiated: a name is a `Symbol`, a call a `Node`, a mapping a list of pairs;
* sizes are bounded by the file's size, which the caller bounds;
* an opcode that such files don't need is an error, never skipped.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cognify_dagster.instrument.distributed.errors import CheckpointError


class Symbol(NamedTuple):
    """A name that the pickle refers to; it is not looked up."""

    module: str
    name: str


@dataclass(eq=False)
class Pairs:
    """A mapping as pairs: keys may be anything."""

    items: list[tuple[Any, Any]] = field(default_factory=list)

    def get(self, name: str) -> Any:
        """The value of a text key; the last one counts, None if there is none."""
        found = None
        for key, value in self.items:
            if isinstance(key, str) and key == name:
                found = value
        return found


@dataclass(eq=False)
class Node:
    """An object that the pickle would have made: what it calls, with which arguments, and the state it would have set."""

    what: Any
    args: Any
    state: Any = None
    pairs: Pairs = field(default_factory=Pairs)
    items: list[Any] = field(default_factory=list)

    def get(self, name: str) -> Any:
        """A member of the state, or None."""
        return self.state.get(name) if isinstance(self.state, Pairs) else None


class Persistent(NamedTuple):
    """A reference to something outside the pickle, such as a tensor's storage."""

    id: Any


_MARK = object()
_IGNORED = frozenset({"PROTO", "FRAME"})
_VALUES = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
        "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "STRING", "BINSTRING", "SHORT_BINSTRING",
    }
)  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def read_inert(data: bytes, where: str) -> Any:
    """Return what a pickle describes, as `Symbol`, `Node`, `Pairs`, `Persistent`, lists, tuples and plain values.

    Args:
        data: The pickle.
        where: Its name, for messages.

    Raises:
        CheckpointError: damaged, or with opcodes that no checkpoint needs.
    """
    try:
        return _run(data)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None
    except Exception as error:  # pickletools raises many kinds for damaged bytes
        raise CheckpointError(
            f"{where}: damaged ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from None


def _index(arg: Any) -> int:
    """The number behind a memo opcode; the text forms of the opcodes have it as text."""
    return int(arg)


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def to_mark() -> list[Any]:
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise CheckpointError("damaged (a mark is missing)")
        found = stack[at + 1 :]
        del stack[at:]
        return found

    def put(target: Any, values: list[Any]) -> None:
        into = target.items if isinstance(target, Node) else target
        if not isinstance(into, list):
            raise CheckpointError("damaged (items for something that is no list)")
        into.extend(values)

    def put_pairs(target: Any, values: list[Any]) -> None:
        into = target.pairs if isinstance(target, Node) else target
        if not isinstance(into, Pairs) or len(values) % 2:
            raise CheckpointError("damaged (pairs for something that is no mapping)")
        into.items.extend(zip(values[::2], values[1::2], strict=True))

    for opcode, arg, _ in pickletools.genops(data):
        name = opcode.name
        if name in _VALUES:
            stack.append(arg)
        elif name in _IGNORED:
            continue
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[_index(arg)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[_index(arg)])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            if len(stack) < count:
                raise CheckpointError("damaged (the stack is empty)")
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(to_mark()))
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "LIST":
            stack.append(to_mark())
        elif name == "EMPTY_DICT":
            stack.append(Pairs())
        elif name == "DICT":
            values = to_mark()
            stack.append(Pairs())
            put_pairs(stack[-1], values)
        elif name == "APPEND":
            value = stack.pop()
            put(stack[-1], [value])
        elif name == "APPENDS":
            values = to_mark()
            put(stack[-1], values)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            put_pairs(stack[-1], [key, value])
        elif name == "SETITEMS":
            values = to_mark()
            put_pairs(stack[-1], values)
        elif name in ("EMPTY_SET",):
            stack.append([])
        elif name == "ADDITEMS":
            values = to_mark()
            put(stack[-1], values)
        elif name == "FROZENSET":
            stack.append(to_mark())
        elif name == "GLOBAL":
            module, _, symbol = str(arg).partition(" ")
            stack.append(Symbol(module, symbol))
        elif name == "STACK_GLOBAL":
            symbol, module = stack.pop(), stack.pop()
            if not isinstance(module, str) or not isinstance(symbol, str):
                raise CheckpointError("damaged (a name is no text)")
            stack.append(Symbol(module, symbol))
        elif name in ("REDUCE", "NEWOBJ"):
            args, what = stack.pop(), stack.pop()
            stack.append(Node(what, args))
        elif name == "NEWOBJ_EX":
            named, args, what = stack.pop(), stack.pop(), stack.pop()
            stack.append(Node(what, (args, named)))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], Node):
                raise CheckpointError("damaged (state for something that is no object)")
            stack[-1].state = state
        elif name == "BINPERSID":
            stack.append(Persistent(stack.pop()))
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            to_mark()
        elif name == "STOP":
            if len(stack) != 1:
                raise CheckpointError("damaged (it ends early)")
            return stack[0]
        else:
            raise CheckpointError(f"holds the pickle opcode {name}, which no checkpoint needs; it is not read")
    raise CheckpointError("damaged (it has no end)")
