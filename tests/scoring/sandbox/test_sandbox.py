"""What a sandbox says of harmless programs, and what it does where it cannot work."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.errors import UsageError
from forgetbench.scoring.sandbox import Limits, Program, Sandbox, bwrap, get_sandbox, host
from forgetbench.scoring.sandbox.inside.codec import Opaque, ProtocolError, decode, encode, pack, read_frame
from forgetbench.scoring.sandbox.inside.judge import wanted_names

unit = pytest.mark.unit


@pytest.fixture(scope="module", params=["bubblewrap", "unsafe"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    made = Sandbox(Limits(wall_seconds=3.0), unsafe=request.param == "unsafe")
    problem = made.problem()
    if problem is not None:
        if os.environ.get("CI"):
            pytest.fail(f"no sandbox: {problem}; run scripts/sandbox.sh")
        pytest.skip(f"no sandbox: {problem}")
    yield made
    made.close()


def run(sandbox: Sandbox, source: str, tests: str, *own: str, shared: bool = False) -> tuple[str, str]:
    result = sandbox.run(Program(source, tests, own, shared))
    assert result.integrity == ("weak" if shared else "separate")
    return result.outcome, result.why


@pytest.mark.parametrize(
    ("source", "tests", "outcome", "why"),
    [
        ("def f(x): return x + 1", "assert f(1) == 2", "pass", "all tests pass"),
        ("def f(x): return x", "assert f(1) == 2", "fail", "`assert f(1) == 2`; f(1) returned 1"),
        ("def f(x): return 1 / 0", "assert f(1) == 2", "fail", "ZeroDivisionError"),
        ("def g(x): return 1", "assert f(1) == 2", "fail", "NameError: name 'f' is not defined"),
        ("def f(x) return 1", "assert f(1) == 2", "fail", "the program raised SyntaxError: expected ':' (line 1)"),
        ("x = 1\nimport nonsense", "assert f(1) == 2", "fail", "No module named 'nonsense' (line 2)"),
        ("def f(x): return input()", "assert f(1) == ''", "fail", "EOFError"),
        ("def f(x): print('x'); return 2", "assert f(1) == 2", "pass", "all tests pass"),
        # Tests that expect an exception, a custom one among them.
        ("def f(x): raise KeyError(x)", "try:\n    f(1)\n    assert False\nexcept KeyError: pass", "pass", ""),
        ("class E(ValueError): pass\ndef f(x): raise E", "try:\n    f(1)\n    assert False\nexcept ValueError: pass", "pass", ""),
        # Arguments changed in place, and state between calls.
        ("def f(x): x.sort()", "a = [2, 1]\nf(a)\nassert a == [1, 2]", "pass", ""),
        ("def f(x): x.pop(1)", "a = {1: [2], 3: 4}\nf(a)\nassert a == {3: 4}", "pass", ""),
        ("n = 0\ndef f():\n    global n\n    n += 1\n    return n", "f()\nassert f() == 2", "pass", ""),
        # Other names of the program: a helper, a constant, a module.
        ("def f(x): return g(x)\ndef g(x): return x", "assert f(g(3)) == 3", "pass", ""),
        ("LIMIT = (1, [2])\ndef f(x): return 2", "assert f(LIMIT) == 2 and LIMIT[1] == [2]", "pass", ""),
        ("import math\ndef f(x): return math.pi", "assert math.isclose(f(1), math.pi)", "pass", ""),
        ("def f(x): return 3", "assert math.isclose(f(1), 3)", "fail", "'math' is not defined"),
        # A built-in is the judge's own, unless the tests are about it.
        ("def abs(x): return 0\ndef f(x): return 9", "assert abs(f(1) - 2) < 1", "fail", "f(1) returned 9"),
        # Plain types keep their types, numpy's too; a match is true.
        ("def f(x): return (x, [1], {2}, 3.5, 'a', None)", "assert f(1) == (1, [1], {2}, 3.5, 'a', None)", "pass", ""),
        ("def f(x): return [1]", "assert f(1) == (1,)", "fail", ""),
        ("import numpy as np\ndef f(x): return np.arange(3)", "import numpy\nassert numpy.allclose(f(1), [0, 1, 2])", "pass", ""),
        ("import re\ndef f(x): return re.match('a', x)", "assert f('a') and not f('b')", "pass", ""),
        ("def f(x):\n    yield x\n    yield 2", "assert list(f(1)) == [1, 2]", "pass", ""),
        ("def f(x): return object()", "assert f(1) == f(1)", "fail", "<a value of type object>"),
        ("def f(x): return 10 ** 5000", "assert f(1) == 10 ** 5000", "pass", ""),
        ("def f(x): return '\\ud800\\U0001f600'", "assert f(1) == '\\ud800\\U0001f600'", "pass", ""),
        ("def f(x): return float('nan')", "assert f(1) != f(1)", "pass", ""),
        ("def f(x): return x", "assert f(lambda: 1) == 2", "infra_error", "type function"),
        ("def f(x): return x", "assert f(1) ==", "infra_error", "the tests are not Python"),
    ],
)  # fmt: skip
def test_outcomes(sandbox: Sandbox, source: str, tests: str, outcome: str, why: str) -> None:
    if sandbox.unsafe and "numpy" in source and not bwrap.libraries():
        pytest.skip("no numpy")
    got = run(sandbox, source, tests, "f")
    assert got[0] == outcome, got
    assert why in got[1]


def test_a_built_in_that_the_tests_are_about(sandbox: Sandbox) -> None:
    assert run(sandbox, "def sum(a, b): return a + b", "assert sum(1, 2) == 3", "sum")[0] == "pass"


def test_tests_in_the_programs_process(sandbox: Sandbox) -> None:
    source = "class Node:\n    def __init__(self, v): self.v = v\ndef f(n): return n.v"
    assert run(sandbox, source, "assert f(Node(3)) == 3", "f", shared=True)[0] == "pass"
    assert run(sandbox, source, "assert f(Node(3)) == 4", "f", shared=True)[0] == "fail"
    liar = "class E:\n    def __eq__(self, o): return True\ndef f(n): return E()"
    assert run(sandbox, liar, "assert f(1) == 4", "f", shared=True)[0] == "fail"
    for end in ("import sys\nsys.exit(0)", "import os\nos._exit(0)"):
        assert run(sandbox, end, "assert f(1) == 4", "f", shared=True)[0] in ("fail", "crash")


def test_limits(sandbox: Sandbox) -> None:
    quick = sandbox.run(Program("while True: pass", "", wall_seconds=0.5))
    assert quick.outcome == "timeout"
    assert 0.4 < quick.seconds < 3
    assert run(sandbox, "def f(x): return len(bytearray(4 << 30))", "assert f(1)", "f")[0] == "oom"


def test_a_server_that_dies_is_started_anew(sandbox: Sandbox) -> None:
    right = Program("def f(x): return x", "assert f(1) == 1", ("f",))
    assert sandbox.run(right).outcome == "pass"
    assert sandbox._server is not None
    os.kill(sandbox._server.pid, signal.SIGKILL)
    assert sandbox.run(right).outcome == "pass"


def test_a_sandbox_that_fails_is_no_failure_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Sandbox()
    monkeypatch.setattr(broken, "_spawn", lambda config, root: subprocess.Popen(["false"], stdin=-1, stdout=-1))
    assert broken.run(Program("def f(x): return x", "assert f(1) == 1", ("f",))).outcome == "infra_error"


def test_no_bwrap_is_a_usage_error_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_shared", {})
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"bwrap is not installed.*apt-get install bubblewrap.*--unsafe-exec"):
        get_sandbox()
    # Installed and forbidden to make namespaces, as in a container: the canary finds out.
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    with pytest.raises(UsageError, match="there is no sandbox"):
        get_sandbox()


def test_a_sandbox_that_keeps_nothing_in_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bwrap that only pretends: the canary writes where it must not, or there is no namespace."""
    fake = tmp_path / "bwrap"
    fake.write_text(f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nshift\nexec {sys.executable} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(host, "_shared", {})
    monkeypatch.setattr(shutil, "which", lambda name: str(fake))
    monkeypatch.setattr(bwrap, "INSIDE", str(tmp_path))
    (tmp_path / "code").symlink_to(Path(bwrap.__file__).parent)
    with pytest.raises(UsageError, match="no process namespace of its own"):
        get_sandbox()


def test_one_sandbox_for_a_process() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("no bwrap")
    assert get_sandbox() is get_sandbox()


@unit
def test_the_filter() -> None:
    for machine in ("x86_64", "aarch64"):
        made = bwrap.seccomp_filter(machine)
        assert made is not None
        assert len(made) % 8 == 0
        assert made[-8:] == bytes.fromhex("060000000000ff7f")  # allow
    assert bwrap.seccomp_filter("x86_64") != bwrap.seccomp_filter("aarch64")
    assert bwrap.seccomp_filter("riscv64") is None


@unit
def test_the_environment_holds_no_more_than_it_says() -> None:
    assert set(bwrap.ENVIRONMENT) == {"HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED"}


_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.complex_numbers(allow_nan=False)
)  # fmt: skip
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(st.integers() | st.text())
        | st.dictionaries(st.integers() | st.text(), inner)
    ),
    max_leaves=20,
)


@unit
@given(_values)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    blob = pack(encode(value))
    parts = iter([blob[:4], blob[4:]])
    back = decode(read_frame(lambda n: next(parts)))
    assert back == value
    assert type(back) is type(value)


@unit
def test_other_values() -> None:
    Pair = collections.namedtuple("Pair", "a b")
    same: list[Any] = [
        *(2**53, -(2**53), 10**400, math.inf, -0.0, frozenset({1}), range(3, 9, 2), bytearray(b"x")),
        *(decimal.Decimal("1.10"), fractions.Fraction(1, 3), collections.deque([1, 2])),
        *(datetime.datetime(2024, 1, 2, 3, 4, 5), datetime.date(2024, 1, 2), datetime.time(3, 4)),
        *(datetime.timedelta(days=-1, microseconds=5), {1: 2}.keys(), {1: 2}.items(), np.float32(0.1), np.int64(3)),
    ]
    for value in same:
        back = decode(encode(value))
        assert back == value
        assert type(back) is type(value)
    array = decode(encode(np.array([[1, 2], [3, 4]], dtype=np.int16)))
    assert array.dtype == np.int16
    assert (array == [[1, 2], [3, 4]]).all()
    assert decode(encode(np.zeros((0, 2)))).shape == (0, 2)
    assert decode(encode(collections.Counter("aab"))) == {"a": 2, "b": 1}
    assert decode(encode(Pair(1, 2))) == (1, 2)
    assert list(decode(encode(iter([1, 2])))) == [1, 2]
    assert list(decode(encode({1: 2}.values()))) == [2]
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for value in (object(), [1, object()], Opaque, deep, re.match("a", "a"), np.array([object()])):
        back = decode(encode(value))
        assert isinstance(back, Opaque)
        assert not back == value  # noqa: SIM201
        again = back
        assert not back == again  # noqa: SIM201
        assert back != again
        assert back
    assert not decode(encode(type("Empty", (), {"__len__": lambda self: 0})()))


@unit
@pytest.mark.parametrize(
    "form",
    [[], ["zz"], {"l": 1}, ["i", 5], ["i", "g"], ["d", 1], ["s", ["l"]], ["N", "O", None, ["l", 1]], ["N", "<i8", None, 5], [["l"], 1], ["l", {}]],
)  # fmt: skip
def test_forged_forms(form: Any) -> None:
    with pytest.raises(ProtocolError):
        decode(form)


@unit
def test_names_that_are_taken_from_the_program() -> None:
    code = compile(
        "import math\nlimit = 3\ndef check(g):\n    x = 1\n    return [abs(y) for y in g(x)] + helper(limit)\ncheck(sum)",
        "t",
        "exec",
    )
    assert wanted_names(code, []) == ["helper"]
    assert wanted_names(code, ["sum", "unused"]) == ["helper", "sum"]
