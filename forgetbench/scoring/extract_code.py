"""Find the program in an answer to "complete this function": the reading behind HumanEval's `pass@1,robust`.

lm-eval's reading, prompt + output, is kept to the letter; where that is no Python program that defines the function,
this one looks for one, in this order:

    a fenced block        the first that defines the function, else the first that completes the prompt
    the whole function    an output that repeats it, with the prompt's imports before it
    lost indentation      the first line without its four blanks (whoever stripped the output), or all of them

A reading is chosen by whether it parses, never by the tests. What is not mended: code cut off, prose among the lines,
a function under another name.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator

_FENCED = re.compile(r"```[ \t]*\w*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_INDENT = "    "


def robust_program(prompt: str, entry_point: str, body: str, text: str) -> str:
    """A program that defines `entry_point`; prompt + body where no reading gives one.

    text: the whole output; body: the part of it that lm-eval's reading takes.
    """
    plain = f"{prompt}{body}"
    return next((p for p in (plain, *_readings(prompt, entry_point, text)) if _completes(p, entry_point)), plain)


def _readings(prompt: str, entry_point: str, text: str) -> Iterator[str]:
    blocks = [m[1] for m in _FENCED.finditer(text)]
    preamble = prompt.rpartition(f"def {entry_point}")[0]
    for code in (*blocks, text):
        if f"def {entry_point}" in code:
            yield f"{preamble}\n{textwrap.dedent(code)}"
    for code in blocks or [text]:
        body = code.strip("\n")
        yield f"{prompt}{body}"
        yield f"{prompt}{_INDENT}{body.lstrip()}"
        yield f"{prompt}{textwrap.indent(textwrap.dedent(body), _INDENT)}"


def _completes(program: str, entry_point: str) -> bool:
    """Whether it parses and the function, as last defined, does more than explain itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\\d" in a docstring of the model's
            tree = ast.parse(program)
            compile(tree, "<program>", "exec", dont_inherit=True)  # sees a return outside the function; runs nothing
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == entry_point]
    return bool(found) and not all(_says_nothing(node) for node in found[-1].body)


def _says_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
