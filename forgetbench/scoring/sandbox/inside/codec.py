"""Values between judge and candidate, as JSON of plain types. No pickle: decoding runs no code of the sender.

A value of another type (an instance of the candidate's own class, a function) arrives as an `Opaque`, which is
equal to nothing. That is what makes an always-equal `__eq__` worthless. Subclasses of plain types arrive as
the plain type (a Counter as a dict, a namedtuple as a tuple).
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import itertools
import json
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

MAX_FRAME = 32 * 1024 * 1024
"""Bytes of one message."""
_MAX_ITERATOR = 1_000_000
_DTYPE = re.compile(r"[<>|=]?[biufcUS]\d{1,4}")
_EXACT = 2**53
_DIRECT = frozenset({float, str, bool, type(None)})
_SCALAR = _DIRECT | {int}


class ProtocolError(Exception):
    """A message that no honest program sends."""


class UncarriedError(Exception):
    """A value of a type that is not plain."""


class Opaque:
    """Stands for a value that cannot be carried over; equal to nothing, itself included. It is as true as the
    program says: a re.Match is true, and a program that lies here could have answered True at once."""

    __slots__ = ("kind", "truth")

    def __init__(self, kind: str, truth: bool = True) -> None:
        self.kind, self.truth = kind, truth

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return self.truth

    def __repr__(self) -> str:
        return f"<a value of type {self.kind}>"


_VIEWS = {type({}.keys()): "k", type({}.values()): "v", type({}.items()): "j"}
_GROUPS: dict[type, str] = {
    list: "l",
    tuple: "t",
    set: "s",
    frozenset: "z",
    collections.deque: "q",
}
_BUILD: dict[str, Callable[[list[Any]], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "z": frozenset,
    "q": collections.deque,
    "g": iter,
    "k": lambda items: dict.fromkeys(items).keys(),
    "v": lambda items: dict(enumerate(items)).values(),
    "j": lambda items: dict(items).items(),
    "d": lambda items: dict(zip(items[::2], items[1::2], strict=True)),
    "c": lambda items: complex(float(items[0]), float(items[1])),
    "r": lambda items: range(int(items[0]), int(items[1]), int(items[2])),
    "i": lambda items: int(items[0], 16),
    "y": lambda items: bytes.fromhex(items[0]),
    "Y": lambda items: bytearray.fromhex(items[0]),
    "D": lambda items: decimal.Decimal(items[0]),
    "F": lambda items: fractions.Fraction(int(items[0], 16), int(items[1], 16)),
    "T": lambda items: datetime.datetime.fromisoformat(items[0]),
    "A": lambda items: datetime.date.fromisoformat(items[0]),
    "M": lambda items: datetime.time.fromisoformat(items[0]),
    "E": lambda items: datetime.timedelta(*(int(n) for n in items)),
    "o": lambda items: Opaque(str(items[0])[:100], items[1] is True),
    "N": lambda items: _numpy(*items),
}


def _numpy(dtype: Any, shape: Any, flat: Any) -> Any:
    import numpy

    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ProtocolError("not a plain dtype")
    array = numpy.array(flat, dtype=dtype)
    return array[0] if shape is None else array.reshape(shape)


def encode(value: Any, *, strict: bool = False) -> Any:
    """The JSON form of a value. What holds anything that is not plain becomes an Opaque as a whole (nothing
    that holds it could be equal to a plain value either); `strict`: raises UncarriedError instead."""
    try:
        return _encode(value)
    except RecursionError:
        problem = "a structure too deep"
    except UncarriedError as e:
        problem = str(e)
    if strict:
        raise UncarriedError(problem)
    try:
        return ["o", problem, bool(value)]
    except Exception:
        return ["o", problem, True]


def _encode(value: Any) -> Any:
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is float or kind is str:
        return value
    if isinstance(value, int):
        value = int(value)
        return value if -_EXACT < value < _EXACT else ["i", hex(value)]
    tag = _GROUPS.get(kind) or _VIEWS.get(kind)
    if tag is None:
        tag = next((t for base, t in _GROUPS.items() if isinstance(value, base)), None)
    if tag is not None:
        # Written out for plain parts: lists of a million numbers occur.
        parts = [v if type(v) in _DIRECT or (type(v) is int and -_EXACT < v < _EXACT) else _encode(v) for v in value]
        return [tag, *parts]
    if isinstance(value, dict):
        return ["d", *(_encode(part) for pair in value.items() for part in pair)]
    return _rare(value, kind)


def _rare(value: Any, kind: type) -> Any:
    module = kind.__module__
    if module == "numpy" or module.startswith("numpy."):
        return _from_numpy(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if isinstance(value, bytes):
        return ["y", value.hex()]
    if isinstance(value, bytearray):
        return ["Y", value.hex()]
    if isinstance(value, range):
        return ["r", *map(_encode, (value.start, value.stop, value.step))]
    if isinstance(value, decimal.Decimal):
        return ["D", str(value)]
    if isinstance(value, fractions.Fraction):
        return ["F", hex(value.numerator), hex(value.denominator)]
    if isinstance(value, datetime.datetime):
        return ["T", value.isoformat()]
    if isinstance(value, datetime.date):
        return ["A", value.isoformat()]
    if isinstance(value, datetime.time):
        return ["M", value.isoformat()]
    if isinstance(value, datetime.timedelta):
        return ["E", value.days, value.seconds, value.microseconds]
    if isinstance(value, Iterator):
        return ["g", *map(_encode, itertools.islice(value, _MAX_ITERATOR))]
    raise UncarriedError(kind.__name__)


def _from_numpy(value: Any) -> Any:
    import numpy

    if isinstance(value, (numpy.ndarray, numpy.generic)) and _DTYPE.fullmatch(value.dtype.str):
        array = numpy.asarray(value)
        shape = ["l", *array.shape] if isinstance(value, numpy.ndarray) else None
        return ["N", array.dtype.str, shape, ["l", *map(_encode, array.ravel().tolist())]]
    raise UncarriedError(type(value).__name__)


def decode(form: Any) -> Any:
    """The value of a JSON form. Raises ProtocolError for a form that `encode` does not make."""
    try:
        return _decode(form)
    except RecursionError:
        return Opaque("a structure too deep")
    except ProtocolError:
        raise
    except Exception as e:  # a forged form: unhashable keys, odd numbers of parts, text where a number belongs
        raise ProtocolError(f"{type(e).__name__}: {e}") from None


def _decode(form: Any) -> Any:
    if type(form) in _SCALAR:
        return form
    if not isinstance(form, list):
        raise ProtocolError("a JSON object")
    build = _BUILD.get(form[0]) if form and isinstance(form[0], str) else None
    if build is None:
        raise ProtocolError("an unknown tag")
    return build([part if type(part) in _SCALAR else _decode(part) for part in form[1:]])


def pack(message: Any) -> bytes:
    """A frame: length, then JSON."""
    blob = json.dumps(message, separators=(",", ":")).encode("ascii")
    return struct.pack("<I", len(blob)) + blob


def read_frame(read: Callable[[int], bytes]) -> Any:
    """The next message. `read(n)` gives up to n bytes, none at the end. Raises EOFError, ProtocolError."""
    (length,) = struct.unpack("<I", read_exactly(read, 4))
    if length > MAX_FRAME:
        raise ProtocolError(f"a message of {length:,} bytes")
    try:
        return json.loads(read_exactly(read, length))
    except (ValueError, RecursionError) as e:
        raise ProtocolError(f"not JSON: {type(e).__name__}") from None


def read_exactly(read: Callable[[int], bytes], n: int) -> bytes:
    parts = []
    while n:
        part = read(min(n, 1 << 20))
        if not part:
            raise EOFError("the other side is gone")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)
