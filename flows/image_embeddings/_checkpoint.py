"""Reads a torch checkpoint without torch, and without ever unpickling.

The weights come as torch's older file format: five pickles (magic number, protocol version,
system information, the state dict, the storage keys), then the storages as raw numbers. A pickle
is a program that may call anything. Here its opcodes are read one by one and only those that build
a state dict of tensors are understood; all else is an error, so a tampered file can do nothing.
"""

from __future__ import annotations

import io
import math
import pickletools  # reads opcodes as text; it executes none
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carbon._errors import CarbonAwareError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MOST_NUMBERS = 2**32

_ORDERED_DICT = "collections OrderedDict"
_REBUILD = "torch._utils _rebuild_tensor_v2"
_STORAGES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch LongStorage": np.dtype("<i8"),
}


class CheckpointError(CarbonAwareError):
    """A checkpoint holds something other than plain tensors, or is damaged."""


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
        flat = storages[self.storage.key][self.offset :]
        steps = [step * flat.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False).copy("C")


_MARK = object()


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict.

    Args:
        path: File that ``torch.save`` wrote in its older format.

    Returns:
        Name to array (float32 or int64), in the file's order.

    Raises:
        CheckpointError: The file is cut off, is no such file, or holds anything but tensors.
    """
    try:
        return _read(io.BytesIO(path.read_bytes()))
    except CheckpointError as error:
        raise CheckpointError(
            f"{path.name} is refused: {error}. Install the package that ships it again."
        ) from error


def _read(stream: io.BytesIO) -> dict[str, NDArray[Any]]:
    if stream.getvalue().startswith(b"PK"):
        raise CheckpointError("it is in torch's newer zip format, which is not read here")
    if (_value(stream), _value(stream)) != (_MAGIC_NUMBER, _PROTOCOL):
        raise CheckpointError("it does not begin like a torch checkpoint")
    system = _value(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("its numbers are not little-endian")
    found: dict[str, _Storage] = {}
    tensors = _value(stream, found)
    if not isinstance(tensors, dict):
        raise CheckpointError("it holds no state dict")
    keys = _value(stream)
    storages = _storages(stream, keys, found)
    return {name: _tensor(name, value).read(storages) for name, value in tensors.items()}


def _tensor(name: object, value: object) -> _Tensor:
    if not isinstance(name, str) or not isinstance(value, _Tensor):
        raise CheckpointError(f"entry {name!r} is no tensor")
    return value


def _storages(
    stream: io.BytesIO, keys: object, found: dict[str, _Storage]
) -> dict[str, NDArray[Any]]:
    if not isinstance(keys, list) or set(map(str, keys)) != set(found):
        raise CheckpointError("its storages do not match its tensors")
    arrays: dict[str, NDArray[Any]] = {}
    for key in keys:
        storage = found[key]
        count = int.from_bytes(stream.read(8), "little")
        data = stream.read(storage.count * storage.dtype.itemsize)
        if count != storage.count or len(data) != count * storage.dtype.itemsize:
            raise CheckpointError("it is cut off or damaged")
        arrays[key] = np.frombuffer(data, storage.dtype)
    if stream.read(1):
        raise CheckpointError("more follows after its end")
    return arrays


def _value(stream: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:  # noqa: ANN401
    """Interpret one pickle; return numbers, strings, tuples, lists, dicts and ``_Tensor``."""
    machine = _Machine({} if storages is None else storages)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, EOFError) as error:
        # ValueError: genops on bytes that are no pickle; the others: a stack or memo misused.
        raise CheckpointError("it is cut off or damaged") from error
    raise CheckpointError("it is cut off")


class _Machine:
    """The stack machine of pickle, cut down to what a state dict needs."""

    def __init__(self, storages: dict[str, _Storage]) -> None:
        self._storages = storages
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:  # noqa: ANN401
        (value,) = self._stack
        return value

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401
        if name in _PUSH_ARGUMENT:
            self._stack.append(argument)
        elif name in _PUSH_CONSTANT:
            self._stack.append(_PUSH_CONSTANT[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name == "PROTO":
            _expect(argument == 2, f"pickle protocol {argument} is not read here")  # noqa: PLR2004
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        else:
            raise CheckpointError(f"pickle instruction {name} is not allowed")

    def load_global(self, argument: str) -> None:
        allowed = argument in (_ORDERED_DICT, _REBUILD, *_STORAGES)
        _expect(allowed, f"it wants to call {argument.replace(' ', '.')!r}")
        self._stack.append(_Global(argument))

    def tuple_to_mark(self, _: object) -> None:
        self._stack.append(tuple(self.to_mark()))

    def tuple_of(self, count: int) -> None:
        taken = [self._stack.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(taken)))

    def append(self, _: object) -> None:
        value = self._stack.pop()
        self.extend([value])

    def extend(self, values: Iterable[Any]) -> None:
        _expect(isinstance(self._stack[-1], list), "it appends to something that is no list")
        self._stack[-1].extend(values)

    def set_item(self, _: object) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self.set_items([key, value])

    def set_items(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        keys = pairs[::2]
        plain = isinstance(target, dict) and all(isinstance(key, str) for key in keys)
        _expect(plain and len(pairs) % 2 == 0, "it fills something that is no plain dict")
        target.update(zip(keys, pairs[1::2], strict=True))

    def build(self, _: object) -> None:
        # State of the OrderedDict: torch's module versions, which nothing here reads.
        self._stack.pop()
        _expect(isinstance(self._stack[-1], dict), "it gives state to something that is no dict")

    def reduce(self, _: object) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if function == _Global(_ORDERED_DICT) and arguments == ():
            self._stack.append({})
        elif function == _Global(_REBUILD):
            self._stack.append(_rebuild(*arguments))
        else:
            raise CheckpointError("it makes a call that is not allowed")

    def load_storage(self, _: object) -> None:
        tag, kind, key, device, count, view = self._stack.pop()
        known = isinstance(kind, _Global) and kind.name in _STORAGES
        plain = tag == "storage" and isinstance(key, str) and device == "cpu" and view is None
        _expect(known and plain and _natural(count), "a storage is not a plain one on the CPU")
        storage = _Storage(key, _STORAGES[kind.name], count)
        same = self._storages.setdefault(key, storage) == storage
        _expect(same, "a storage is described twice, differently")
        self._stack.append(storage)

    def to_mark(self) -> list[Any]:
        taken: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]


_PUSH_ARGUMENT = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"})
_PUSH_CONSTANT: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": _Machine.load_global,
    "TUPLE": _Machine.tuple_to_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": lambda machine, _: machine.extend(machine.to_mark()),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.to_mark()),
    "BUILD": _Machine.build,
    "REDUCE": _Machine.reduce,
    "BINPERSID": _Machine.load_storage,
}


def _rebuild(*arguments: object) -> _Tensor:
    storage, offset, shape, strides, _requires_grad, _hooks = arguments
    if not (isinstance(storage, _Storage) and _natural(offset)):
        raise CheckpointError("a tensor is not described plainly")
    shape, strides = _naturals(shape), _naturals(strides)
    assert isinstance(offset, int)
    # Views may step through their storage (these weights are transposed), never out of it, and
    # never blow a few bytes up into many.
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    inside = 0 < math.prod(shape) <= storage.count and last < storage.count
    _expect(inside, "a tensor reaches beyond its storage")
    return _Tensor(storage, offset, shape, strides)


def _naturals(value: object) -> tuple[int, ...]:
    if not (isinstance(value, tuple) and all(map(_natural, value))):
        raise CheckpointError("a shape is not plain numbers")
    return value


def _natural(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST_NUMBERS


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise CheckpointError(problem)
