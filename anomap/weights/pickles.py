"""A pickle reader that can't run anything: a small stack machine over the opcodes.

``pickle.Unpickler`` with a strict `find_class` still hashes what the file tells it to hash and allocates what the
file tells it to allocate. So this one doesn't use it: `pickletools.genops` cuts the file into opcodes, and the
machine below keeps plain values on its own stack. A global name is never imported; it is looked up in a table of
our functions, and what is not in the table ends the reading.

Bounds: every opcode makes at most one object and there are at most `MAX_OPCODES`; texts and bytes lie in the file,
whose size is bounded by the caller; keys are texts or numbers (the hash of nested tuples may take for ever).
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from anomap.errors import AnomapError

MAX_OPCODES = 2_000_000
MAX_NAME = 80  # characters of a foreign name repeated in a message
Builder = Callable[..., Any]  # arguments from the file -> a value of ours


@dataclass(frozen=True, slots=True)
class Name:
    """A global the file mentions and the table knows."""

    text: str
    build: Builder


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something harmless that nobody asks for, e.g. an array in the settings of the training."""


@dataclass(frozen=True, slots=True)
class DataType:
    """A numpy data type by its code, e.g. "f8"; always little-endian, as every machine that trains is."""

    code: str


class _Mark:
    """Where a collection begins on the stack."""


MARK = _Mark()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,  # a set's elements need hashing; nobody asks for it
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: MARK,
}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def refuse(what: str) -> NoReturn:
    """End the reading with E304, naming the first thing that was not accepted."""
    raise AnomapError("E304", f"the weight file was refused: {what}")


def printable(name: str) -> str:
    """A foreign name as it may stand in a message: one short line."""
    return "".join(c if c.isprintable() else "?" for c in name[:MAX_NAME])


def read_pickle(
    source: IO[bytes],
    names: Mapping[str, Builder],
    persistent: Callable[[Any], Any] | None = None,
    limit: int = MAX_OPCODES,
) -> Any:
    """Read one pickle from where `source` stands.

    Args:
        source: Seekable, its reads bounded by what there is (``io.BytesIO``, ``mmap``).
        names: What each permitted global does with its arguments, by "module.name".
        persistent: Turns a persistent id into a value; without it they are refused.
        limit: Most instructions.

    Returns:
        The value: dicts, lists, tuples, texts, bytes, numbers, and what the builders made.

    Raises:
        AnomapError: E304 names the first thing that is not permitted, or says that the file is damaged.
    """
    machine = _Machine(names, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(source)):
            if count >= limit:
                refuse(f"a pickle of more than {limit} instructions")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, OverflowError, TypeError, KeyError, struct.error) as error:
        raise AnomapError("E304", "the weight file was refused: damaged, or not a pickle") from error
    refuse("it ends too early")


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(self, names: Mapping[str, Builder], persistent: Callable[[Any], Any] | None) -> None:
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}  # by number, so that a large number costs nothing

    def pop(self) -> Any:
        """The top of the stack, never a mark."""
        value = self.stack.pop()
        if value is MARK:
            refuse("a misplaced mark")
        return value

    def since_mark(self) -> list[Any]:
        """All values above the last mark, which goes too."""
        at = next((i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is MARK), None)
        if at is None:
            refuse("a collection without beginning")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif name not in _STEPS:
            refuse(f"the pickle instruction {name}")
        else:
            _STEPS[name](self, argument)

    def remember(self, argument: Any) -> None:
        """MEMOIZE, BINPUT, LONG_BINPUT."""
        if self.stack[-1] is MARK:
            refuse("a misplaced mark")
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def recall(self, argument: Any) -> None:
        """BINGET, LONG_BINGET."""
        self.stack.append(self.memo[argument])

    def collect(self, _: Any) -> None:
        """TUPLE."""
        self.stack.append(tuple(self.since_mark()))

    def append(self, _: Any) -> None:
        """APPEND."""
        self.extend([self.pop()])

    def appends(self, _: Any) -> None:
        """APPENDS, ADDITEMS."""
        self.extend(self.since_mark())

    def extend(self, values: list[Any]) -> None:
        """Put `values` into the list on top."""
        if not isinstance(self.stack[-1], list):
            refuse("an append to what is no list")
        self.stack[-1].extend(values)

    def set_item(self, _: Any) -> None:
        """SETITEM."""
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def set_items(self, _: Any) -> None:
        """SETITEMS."""
        self.update(self.since_mark())

    def update(self, flat: list[Any]) -> None:
        """Put keys and values, alternating, into the dict on top."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(flat) % 2:
            refuse("an item for what is no dict")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if not isinstance(key, str | int | float):
                refuse("a key that is neither text nor number")
            target[key] = value

    def find(self, text: str) -> None:
        """Push what a global name stands for, if it is permitted."""
        if text not in self.names:
            refuse(f"it asks for {printable(text)!r}, which a StyleGAN2-ADA file does not need")
        self.stack.append(Name(text, self.names[text]))

    def find_by_line(self, argument: Any) -> None:
        """GLOBAL: "module name" in one argument."""
        module, name = argument.split(" ", 1)
        self.find(f"{module}.{name}")

    def find_by_stack(self, _: Any) -> None:
        """STACK_GLOBAL."""
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            refuse("a global name that is no text")
        self.find(f"{module}.{name}")

    def call(self, _: Any) -> None:
        """REDUCE and NEWOBJ: a permitted name with its arguments."""
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            refuse("a call of what is no permitted name")
        try:
            self.stack.append(name.build(*arguments))
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise AnomapError("E304", f"the weight file was refused: {name.text} has unusual arguments") from error

    def build(self, _: Any) -> None:
        """BUILD: nothing that is permitted needs its state, so it is dropped."""
        self.pop()
        if not isinstance(self.stack[-1], Ignored | DataType):
            refuse("a state for an object that has none")

    def identify(self, _: Any) -> None:
        """BINPERSID."""
        if self.persistent is None:
            refuse("the pickle instruction BINPERSID")
        self.stack.append(self.persistent(self.pop()))

    def nothing(self, _: Any) -> None:
        """PROTO, FRAME."""

    def discard(self, _: Any) -> None:
        """POP."""
        self.pop()

    def discard_all(self, _: Any) -> None:
        """POP_MARK."""
        self.since_mark()


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.nothing,
    "FRAME": _Machine.nothing,
    "MEMOIZE": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "TUPLE": _Machine.collect,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.find_by_line,
    "STACK_GLOBAL": _Machine.find_by_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.identify,
    "POP": _Machine.discard,
    "POP_MARK": _Machine.discard_all,
}
