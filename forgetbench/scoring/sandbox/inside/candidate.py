"""The candidate's process: it runs the generated program and answers calls. It never holds the tests.

Nothing that it says is trusted. The worst it can do is to answer wrongly, not at all, or with nonsense.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .codec import decode, encode, pack, read_frame

PROGRAM = "<program>"
_MUTABLE = (list, dict, set, bytearray)


def serve(channel: int, program: str) -> None:
    """Run the program, then answer the judge until it hangs up."""
    # Bound here: a program that patches `os` or `builtins` harms its own calls, not the serving of them.
    read, write = os.read, os.write

    def receive() -> Any:
        return read_frame(lambda n: read(channel, n))

    def send(message: Any) -> None:
        rest = memoryview(pack(message))
        while rest:
            rest = rest[write(channel, rest) :]

    namespace: dict[str, Any] = {}
    send(_guarded(lambda: _load(program, namespace)))
    while True:
        try:
            kind, *rest = receive()
        except EOFError:
            return
        if kind == "names":
            send(["names", {n: _describe(namespace[n]) for n in rest[0] if n in namespace}])
        elif kind == "call":
            name, args, kwargs = rest
            send(_guarded(lambda: _call(namespace[name], decode(args), decode(kwargs))))  # noqa: B023
        elif kind == "run":
            send(_guarded(lambda: _run_tests(rest[0], rest[1], rest[2], namespace)))  # noqa: B023


def _load(program: str, namespace: dict[str, Any]) -> list[Any]:
    exec(compile(program, PROGRAM, "exec"), namespace)
    return ["loaded"]


def _guarded(step: Callable[[], list[Any]]) -> list[Any]:
    """What a step answers, or what it raised; also SystemExit, which in a program is no way to pass."""
    try:
        return step()
    except BaseException as e:
        kinds = [c.__name__ for c in type(e).__mro__ if getattr(builtins, c.__name__, None) is c]
        try:
            text = str(e.msg if isinstance(e, SyntaxError) else e)[:300]
        except BaseException:
            text = ""
        return ["raised", type(e).__name__, kinds[:1] or ["Exception"], text, _line(e)]


def _line(error: BaseException) -> int | None:
    if isinstance(error, SyntaxError):
        return error.lineno
    line, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == PROGRAM:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _describe(value: Any) -> list[Any]:
    if isinstance(value, ModuleType):
        return ["module", value.__name__]
    if callable(value):
        return ["callable"]
    return ["value", encode(value)]


def _call(function: Any, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """["returned", value, arguments afterwards]: a list that was changed in place must change for the tests."""
    before = [encode(a) if isinstance(a, _MUTABLE) else None for a in args]
    value = encode(function(*args, **kwargs))
    after = [encode(a) if isinstance(a, _MUTABLE) else None for a in args]
    changed = {str(i): form for i, form in enumerate(after) if form != before[i]}
    return ["returned", value, changed]


def _run_tests(tests: str, nonce: str, entry: list[str], namespace: dict[str, Any]) -> list[Any]:
    """Tests in the program's own process, for those that build its classes. The functions under test answer
    plain values here too; beyond that such a program could do anything: `integrity: weak`."""
    for name in entry:
        function = namespace.get(name)
        if callable(function) and not isinstance(function, type):
            namespace[name] = _plain(function)
    exec(compile(tests, "<tests>", "exec"), namespace)
    return ["passed", nonce]


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return decode(encode(function(*args, **kwargs)))

    return call
