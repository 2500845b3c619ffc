"""The judge's process: it holds the tests and calls the candidate's functions over a channel."""

from __future__ import annotations

import builtins
import contextlib
import dis
import importlib
import os
import reprlib
import secrets
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .codec import MAX_FRAME, ProtocolError, UncarriedError, decode, encode, pack, read_frame

TESTS = "<tests>"
GONE = "gone"
"""The candidate ended: what became of it is for the server to say, who sees its exit status."""
Verdict = tuple[str, str]
"""(outcome, why)."""


class CandidateError(Exception):
    """The program raised something that is no built-in exception."""


class _HungUpError(BaseException):
    """No BaseException would be caught by a test's bare `except`, so `Client.problem` remembers it as well."""


class Client:
    """The candidate, seen from the tests."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self.problem: Verdict | None = None
        """Once set, no outcome of the tests counts any more."""
        self.last = ""
        """The last call and what came of it, for people."""
        self._short = reprlib.Repr()
        self._short.maxstring = self._short.maxother = 120
        self._short.maxlist = self._short.maxtuple = self._short.maxdict = self._short.maxset = 8

    def ask(self, message: Any) -> list[Any]:
        if self.problem is not None:
            raise _HungUpError
        try:
            rest = memoryview(pack(message))
            if len(rest) > MAX_FRAME:
                return self._broken("infra_error", "the tests pass an argument that is too large to be carried")
            while rest:
                rest = rest[os.write(self._channel, rest) :]
            answer = read_frame(lambda n: os.read(self._channel, n))
        except (EOFError, OSError):
            return self._broken(GONE, "the program ended")
        except ProtocolError as e:
            return self._broken("protocol", f"the program's process answered with {e}")
        if not isinstance(answer, list) or not answer or not isinstance(answer[0], str):
            return self._broken("protocol", "the program's process answered with nonsense")
        return answer

    def _broken(self, outcome: str, why: str) -> list[Any]:
        self.problem = (outcome, why)
        raise _HungUpError

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        shown = f"{name}({', '.join([*map(self.short, args), *(f'{k}={self.short(v)}' for k, v in kwargs.items())])})"
        self.last = f"{shown} was called"
        try:
            forms = [encode(a, strict=True) for a in args], {k: encode(v, strict=True) for k, v in kwargs.items()}
        except UncarriedError as e:
            self._broken("infra_error", f"the tests pass a value of type {e}, which cannot be carried")
        arguments = ["l", *forms[0]], ["d", *(part for pair in forms[1].items() for part in pair)]
        answer = self.ask(["call", name, *arguments])
        try:
            if answer[0] == "raised":
                self.last = f"{shown} raised {answer[1]}"
                raise as_exception(answer)
            _, value, changed = answer
            decoded = decode(value)
            for index, form in changed.items():
                _replace(args[int(index)], decode(form))
        except ProtocolError as e:
            self._broken("protocol", f"the program's process answered with {e}")
        except (ValueError, TypeError, IndexError, AttributeError) as e:
            if answer[0] == "raised":
                raise
            self._broken("protocol", f"the program's process answered with nonsense ({type(e).__name__})")
        self.last = f"{shown} returned {self.short(decoded)}"
        return decoded

    def short(self, value: Any) -> str:
        try:
            return self._short.repr(value)
        except Exception as e:  # a repr that fails (an int of too many digits) must not fail the test
            return f"<{type(value).__name__}: {type(e).__name__}>"


def _replace(old: Any, new: Any) -> None:
    if type(old) is not type(new):
        raise ProtocolError("an argument that changed its type")
    if isinstance(old, (list, bytearray)):
        old[:] = new
    else:
        old.clear()
        old.update(new)


def as_exception(answer: Sequence[Any]) -> Exception:
    """The exception that the candidate says was raised, as a built-in one where it is one."""
    name, text = str(answer[1])[:100], str(answer[3])[:300]
    base = answer[2][0] if isinstance(answer[2], list) and answer[2] else "Exception"
    kind = getattr(builtins, str(base), None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text if base == name else f"{name}: {text}")
        except TypeError:  # UnicodeDecodeError and such want more arguments
            return CandidateError(f"{name}: {text}")
    return CandidateError(f"{name}: {text}")


def wanted_names(code: types.CodeType, own: Sequence[str]) -> list[str]:
    """Names that the tests use and do not define. A built-in is never taken from the program, unless it is what
    the tests are about (`own`): a program must not be able to bring its own `abs` or `sorted`."""
    used: set[str] = set()
    defined: set[str] = set()
    for part in _codes(code):
        for step in dis.get_instructions(part):
            if step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
                used.add(step.argval)
            elif step.opname in ("STORE_NAME", "STORE_GLOBAL") and (part is code or step.opname == "STORE_GLOBAL"):
                defined.add(step.argval)
    return sorted(n for n in used if (n not in defined and not hasattr(builtins, n)) or n in own)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def judge(channel: int, tests: str, own: Sequence[str], shared: bool) -> Verdict:
    """Wait for the program to load, run the tests, say what came of it."""
    client = Client(channel)
    try:
        verdict = _judge(client, tests, own, shared)
    except _HungUpError:
        verdict = ("fail", "")
    except ProtocolError as e:
        verdict = ("protocol", f"the program's process answered with {e}")
    except MemoryError:
        verdict = ("oom", "the judge's memory is used up by what the program answered")
    return client.problem or verdict


def _judge(client: Client, tests: str, own: Sequence[str], shared: bool) -> Verdict:
    loaded = _receive_loaded(client)
    if loaded is not None:
        return loaded
    if shared:
        nonce = secrets.token_hex(16)
        answer = client.ask(["run", tests, nonce, list(own)])
        if answer == ["passed", nonce]:
            return "pass", "all tests pass"
        return _raised(answer, "the tests") if answer[0] == "raised" and len(answer) == 5 else ("protocol", "forged")
    try:
        code = compile(tests, TESTS, "exec")
    except (SyntaxError, ValueError) as e:
        return "infra_error", f"the tests are not Python: {e}"
    namespace: dict[str, Any] = {}
    answer = client.ask(["names", wanted_names(code, own)])
    if answer[0] != "names" or not isinstance(answer[-1], dict):
        return "protocol", "the program's process answered with nonsense"
    for name, described in answer[-1].items():
        namespace[name] = _global(client, str(name), described)
    try:
        exec(code, namespace)
    except MemoryError:
        return "oom", f"out of memory: {client.last}"
    except Exception as e:
        return "fail", _why(e, tests, client.last)
    return "pass", "all tests pass"


def _receive_loaded(client: Client) -> Verdict | None:
    """None when the program loaded."""
    answer = client.ask(["hello"])
    if answer[0] == "loaded":
        return None
    if answer[0] == "raised" and len(answer) == 5:
        return _raised(answer, "the program")
    return "protocol", "the program's process answered with nonsense"


def _raised(answer: Sequence[Any], what: str) -> Verdict:
    name, text, line = str(answer[1])[:100], str(answer[3])[:300], answer[4]
    where = f" (line {line})" if isinstance(line, int) else ""
    outcome = "oom" if name == "MemoryError" else "fail"
    return outcome, f"{what} raised {name}{': ' if text else ''}{text}{where}"


def _global(client: Client, name: str, described: Any) -> Any:
    kind = described[0] if isinstance(described, list) and described else None
    if kind == "callable":
        return _proxy(client, name)
    if kind == "module" and str(described[1]).split(".")[0] in {*sys.stdlib_module_names, "numpy"}:
        with contextlib.suppress(ImportError):
            return importlib.import_module(str(described[1]))
    if kind == "value":
        return decode(described[1])
    return None


def _proxy(client: Client, name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return client.call(name, args, kwargs)

    call.__name__ = name
    return call


def _why(error: Exception, tests: str, last: str) -> str:
    """What failed, at which line of the tests, after which call."""
    line, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == TESTS:
            line = step.tb_lineno
        step = step.tb_next
    text = f"{type(error).__name__}{': ' if str(error) else ''}{str(error)[:200]}"
    if line is not None:
        text += f" at `{tests.split(chr(10))[line - 1].strip()[:200]}`"
    return f"{text}; {last}" if last else text
