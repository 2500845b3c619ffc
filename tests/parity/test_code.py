"""HumanEval, MBPP and their plus sets against lm-eval: prompts of every item, what is read as the program, the
tests it is put to; and verdicts on programs that are known to be right or wrong.

lm-eval loads its metric ("code_eval", which runs programs) from the hub at import: the tests give it a stand-in
that runs nothing. So texts are compared with lm-eval, and verdicts with the data's own solutions and with what
others published.
"""

from __future__ import annotations

import ast
import gzip
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.resolve import resolve
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.planning.render import render
from forgetbench.scoring.sandbox import Program, Sandbox, get_sandbox
from forgetbench.tasks.code import CodeTask, defined
from forgetbench.tasks.code_mbpp import BASE
from forgetbench.tasks.registry import CODE_TASKS, get_task
from forgetbench.tasks.source import DataSource
from forgetbench.types import Generation, Item, Response, Style

from .oracle import include

pytestmark = [pytest.mark.parity, pytest.mark.realdata]

NAMES = sorted(CODE_TASKS)
SIZES = {"humaneval": 164, "humaneval_plus": 164, "mbpp": 500, "mbpp_plus": 378}
# lm-eval's name of the chat form; humaneval_plus has none there, its chat form here is humaneval's.
INSTRUCT = {
    "humaneval": "humaneval_instruct",
    "humaneval_plus": "humaneval_instruct",
    "mbpp": "mbpp_instruct",
    "mbpp_plus": "mbpp_plus_instruct",
}
DEFAULT_MAX_TOKENS = 256
"""lm-eval's, where a task names none."""


@pytest.fixture(scope="module")
def tasks(data_dir: Path) -> dict[str, CodeTask]:
    made = {n: get_task(n, source=DataSource(data_dir=data_dir)) for n in NAMES}
    assert all(isinstance(t, CodeTask) for t in made.values())
    return made  # type: ignore[return-value]


@pytest.fixture(scope="module")
def theirs(tasks: dict[str, CodeTask], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Style], Any]:
    """lm-eval's task objects over our documents."""
    import evaluate
    import lm_eval
    from lm_eval.tasks import TaskManager

    class StandIn:
        def compute(self, *, references: Any, predictions: Any, k: Any) -> Any:
            return {"pass@1": 0.0}, {}

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    registered = Path(lm_eval.__file__).parent / "tasks"
    made: dict[tuple[str, Style], Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "load", lambda *args, **kwargs: StandIn())
        for name in NAMES:
            for style in ("raw", "chat"):
                folder = tmp_path_factory.mktemp(f"{name}_{style}")
                known = name if style == "raw" else INSTRUCT[name]
                file = registered / known.split("_")[0] / f"{known}.yaml"
                include(folder, known, file, {"test": [dict(i.doc) for i in tasks[name].load()]})
                manager = TaskManager(include_defaults=False, include_path=str(folder))
                [made[name, style]] = manager.load([known])["tasks"].values()
    return made


@pytest.fixture(scope="module", params=["qwen_folder", "llama_folder"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return resolve(ModelSpec(alias="tiny", path=str(request.getfixturevalue(request.param)), dtype="float32"))


def their_template(folder: Path) -> Callable[..., str]:
    """As lm-eval's Hugging Face model applies a template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def apply(history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return str(
            tokenizer.apply_chat_template(
                history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    return apply


def shots(task: CodeTask, style: Style) -> int:
    return task.default_num_fewshot[style]


def asked(task: Any, doc: dict[str, Any], n: int, **chat: Any) -> str:
    return str(task.fewshot_context(doc, n, gen_prefix=task.doc_to_prefix(doc), **chat))


@pytest.mark.parametrize("name", NAMES)
def test_raw_prompts_of_all_items(
    name: str, tasks: dict[str, CodeTask], theirs: dict[tuple[str, Style], Any], llama_folder: Path
) -> None:
    task, other = tasks[name], theirs[name, "raw"]
    point = resolve(ModelSpec(alias="tiny", path=str(llama_folder), dtype="float32"))
    docs = list(other.test_docs())
    assert len(docs) == SIZES[name]
    assert other.config.num_fewshot == shots(task, "raw")
    for n in {0, shots(task, "raw")}:
        for item, doc in zip(task.load(), docs, strict=True):
            prompt, _ = render(task.prompt(item, n), "raw", point)
            assert prompt.text == asked(other, doc, n)
    check_settings(task, other)


@pytest.mark.parametrize("name", NAMES)
def test_chat_prompts_of_all_items(
    name: str, tasks: dict[str, CodeTask], theirs: dict[tuple[str, Style], Any], checkpoint: Checkpoint
) -> None:
    task, other = tasks[name].in_style("chat"), theirs[name, "chat"]
    assert other.config.num_fewshot == shots(task, "chat")
    chat = {
        "apply_chat_template": True,
        "fewshot_as_multiturn": True,
        "chat_template": their_template(Path(checkpoint.spec.path)),
    }
    for item, doc in zip(task.load(), other.test_docs(), strict=True):
        prompt, _ = render(task.prompt(item, shots(task, "chat")), "chat", checkpoint)
        assert prompt.text == asked(other, doc, shots(task, "chat"), **chat)
    check_settings(task, other)


def check_settings(task: CodeTask, other: Any) -> None:
    spec = task.prompt(task.load()[0], 0)
    settings = other.config.generation_kwargs
    assert list(spec.stop) == settings["until"]
    assert spec.max_tokens == settings.get("max_gen_toks", DEFAULT_MAX_TOKENS)
    assert settings["do_sample"] is False


@pytest.mark.parametrize("name", NAMES)
def test_the_tests_are_theirs(name: str, tasks: dict[str, CodeTask], theirs: dict[tuple[str, Style], Any]) -> None:
    task, other = tasks[name], theirs[name, "raw"]
    metric = BASE if name == "mbpp_plus" else "pass@1"
    differ = []
    for item, doc in zip(task.load(), other.test_docs(), strict=True):
        [tests] = [t for t in task.tests(item.doc) if t.metric == metric]
        if tests.source != other.doc_to_target(doc):
            differ.append((item.doc["task_id"], tests.shared))
    # Problem 367 of MBPP comes with a set-up that lm-eval leaves out: no program can pass there.
    assert differ == ([(367, True)] if name == "mbpp" else [])


CRAFTED = [
    *("", "\n", "    return 1\n", "    return 1\n```\nThat is it.", "\ndef f(x):\n    return x\n```\n", "```"),
    *(
        "\ndef f(x):\n    return x",
        "\n\ndef f():\n    pass\n\n```\nand\n```python\nx\n```",
        "python\ndef f(): pass\n```",
    ),
    *(
        "\n```\n",
        "\nx = '''\n``` '''\n```",
        "py\nx\n",
        "\r\ndef f(): pass\r\n```",
        "\n# a\n```python\ndef g(): pass\n```",
    ),
]


def texts(data_dir: Path) -> Iterator[str]:
    """Crafted ones, and what real models wrote, fenced and not."""
    yield from CRAFTED
    for path in sorted((data_dir / "published").glob("humaneval_gemini_benchmark/*.jsonl.gz")):
        for row in rows(path):
            yield row["predictions"][0]
            yield f"\n{row['predictions'][0]}\n```\nThis works."


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("style", ["raw", "chat"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_run(
    name: str, style: Style, tasks: dict[str, CodeTask], theirs: dict[tuple[str, Style], Any], data_dir: Path
) -> None:
    """The program in a text: lm-eval's filters against ours."""
    from lm_eval.api.instance import Instance

    task, other = tasks[name].in_style(style), theirs[name, style]
    item, doc = task.load()[3], list(other.test_docs())[3]
    outputs = list(texts(data_dir))
    made = [Instance("generate_until", doc, ("", {}), 0, resps=[text]) for text in outputs]
    for ensemble in other._filters:
        ensemble.apply(made)
    compared = 0
    for text, instance in zip(outputs, made, strict=True):
        [filtered] = instance.filtered_resps.values()
        # One list for the samples of a task with a filter of its own, the text itself otherwise.
        program = filtered if isinstance(filtered, str) else filtered[0]
        answer = task.read(item.doc, text)
        if name.startswith("mbpp") and style == "chat" and text[:1].isalnum() and "\n" not in text.split("```")[0][:6]:
            continue  # the word after the fence: see the test below
        if answer.extracted is None:
            assert (
                program.removeprefix(item.doc.get("prompt", "") if name.startswith("humaneval") else "").strip() == ""
            )
        else:
            assert answer.program == program
        compared += 1
    assert compared > 600


def test_the_first_word_after_the_fence_is_kept(
    tasks: dict[str, CodeTask], theirs: dict[tuple[str, Style], Any]
) -> None:
    """Under a template that keeps the prefill's last line end (ChatML does) an answer opens with "def"; lm-eval
    takes it for the name of a language."""
    from lm_eval.api.instance import Instance

    task, other = tasks["mbpp"].in_style("chat"), theirs["mbpp", "chat"]
    text = "def f(x):\n    return x\n```"
    instance = Instance("generate_until", {}, ("", {}), 0, resps=[text])
    for ensemble in other._filters:
        ensemble.apply([instance])
    [[program]] = instance.filtered_resps.values()
    assert program == " f(x):\n    return x"
    with pytest.raises(SyntaxError):
        ast.parse(program)
    assert task.read({}, text).program == "def f(x):\n    return x"


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    from forgetbench.errors import UsageError

    try:
        return get_sandbox()
    except UsageError as e:
        if os.environ.get("CI"):
            pytest.fail(str(e))
        pytest.skip(str(e))


HEAVY = {
    "humaneval": {},
    "humaneval_plus": {"HumanEval/15", "HumanEval/83", "HumanEval/130", "HumanEval/139"},
    "mbpp": {123},
    "mbpp_plus": {123, 255, 271, 392, 599},
}
"""More than two seconds each; docs/parity.md has what they give."""
WRONG_SOLUTIONS = {
    ("humaneval_plus", "HumanEval/32", "pass@1"),  # its test unpacks a number
    *(("mbpp_plus", i, BASE) for i in (98, 124, 137, 300)),  # lm-eval leaves out `import math`
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_reference_solutions_pass(name: str, tasks: dict[str, CodeTask], sandbox: Sandbox) -> None:
    task = tasks[name]
    items = [i for i in task.load() if i.doc["task_id"] not in HEAVY[name]]
    assert len(items) == SIZES[name] - len(HEAVY[name])
    failed = {
        (name, item.doc["task_id"], metric)
        for item in items
        for metric, result in task.execute(item.doc, task.reference(item.doc)).items()
        if result.outcome != "pass"
    }
    assert failed == {w for w in WRONG_SOLUTIONS if w[0] == name}


def broken(reference: str) -> str:
    """Every function of a program gives back something that is not its answer."""
    tree = ast.parse(reference)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = ast.parse("raise ValueError('wrong')" if node.name == "__init__" else "return 'wrong'").body
    return ast.unparse(tree)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_wrong_programs_fail(name: str, tasks: dict[str, CodeTask], sandbox: Sandbox) -> None:
    task = tasks[name]
    for item in task.load():
        results = task.execute(item.doc, broken(task.reference(item.doc)))
        outcomes = [r.outcome for r in results.values()]
        if name == "mbpp_plus" and item.doc["task_id"] in (737, 787, 794):
            # Their plus tests ask only whether the answer is true, and all of them want one that is.
            assert outcomes == ["pass", "fail"]
        else:
            assert set(outcomes) == {"fail"}, (item.doc["task_id"], results)


def published(folder: Path, docs: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, bool, str]]:
    """(problem, program, whether it passed there, file). Without those that ran out of time there: whether they
    do here is a matter of the machine."""
    for path in sorted(folder.glob("humaneval_ldb/*.jsonl.gz")):
        for row in rows(path):
            yield row["task_id"], row["solution"], bool(row["is_solved"]), path.name
    for path in sorted(folder.glob("humaneval_wizardcoder15b/*.jsonl.gz")):
        for row in timely(path):
            yield row["task_id"], row["completion"], bool(row["passed"]), path.name
    for path in sorted(folder.glob("humaneval_gemini_benchmark/*.jsonl.gz")):
        for row in timely(path):
            program = f"{docs[row['task_id']]['prompt']}    {row['predictions'][0]}"
            yield row["task_id"], program, bool(row["passed"]), path.name


def timely(path: Path) -> list[dict[str, Any]]:
    return [row for row in rows(path) if row["result"] != "timed out"]


OTHERWISE = {
    # The program uses `math` without importing it; LDB's harness had imported it.
    ("humaneval_starcoder_seed.jsonl.gz", "HumanEval/106"): "NameError",
    ("humaneval_starcoder_seed.jsonl.gz", "HumanEval/133"): "NameError",
    # sympy, which the sandbox does not have.
    ("gemini-pro.jsonl.gz", "HumanEval/82"): "sympy",
}


@pytest.mark.slow
def test_published_verdicts(tasks: dict[str, CodeTask], sandbox: Sandbox, data_dir: Path) -> None:
    """1,798 programs of nine models, right and wrong, and what their authors' harnesses said of them."""
    task = tasks["humaneval"]
    items = {i.doc["task_id"]: i for i in task.load()}
    docs = {k: dict(i.doc) for k, i in items.items()}
    counted = {True: 0, False: 0}
    for problem, program, passed, file in published(data_dir / "published", docs):
        [tests] = task.tests(docs[problem])
        own = defined(task.reference(docs[problem]))
        result = sandbox.run(Program(program, tests.source, own, wall_seconds=5.0))
        counted[passed] += 1
        differs = OTHERWISE.get((file, problem))
        if differs is None:
            assert (result.outcome == "pass") == passed, (file, problem, result)
        else:
            assert (result.outcome == "pass") != passed
            assert differs in result.why
    assert counted == {True: 1065, False: 733}


def test_scores(tasks: dict[str, CodeTask], sandbox: Sandbox) -> None:
    """From a response to a judgement, in both styles."""

    def judged(task: CodeTask, item: Item, text: str, finish: Any = "stop") -> Any:
        [found] = task.score(item, Response("r", generations=(Generation(text, (1,), finish),)))
        return found

    raw = tasks["humaneval"]
    item = raw.load()[0]
    right = item.doc["canonical_solution"]
    found = judged(raw, item, right)
    assert (found.scores, found.outcome, found.extracted) == ({"pass@1": 1.0}, "ok", right)
    assert found.extra == {"execution": "pass", "integrity": "separate", "sandbox": "bubblewrap"}
    fenced = f"{right}```\nDone."
    assert judged(raw, item, fenced).scores == {"pass@1": 0.0}
    assert judged(raw.in_style("chat"), item, fenced).scores == {"pass@1": 1.0}
    assert judged(raw, item, right, "length").outcome == "truncated"
    assert judged(raw, item, " \n").outcome == "unparsed"
    assert judged(raw, item, "    while True: pass").outcome == "timeout"
    assert judged(raw, item, "    return True", "error").scores == {}
    wrong = judged(raw, item, "    return True\n")
    assert (wrong.outcome, wrong.extra["execution"]) == ("ok", "fail")
    assert "returned True" in wrong.why
    plus = tasks["mbpp_plus"]
    first = plus.load()[0]
    assert judged(plus, first, first.doc["code"]).scores == {"pass@1": 1.0, BASE: 1.0}
    half = "def similar_elements(a, b):\n  return {(3, 4, 5, 6): (4, 5), (1, 2, 3, 4): (3, 4)}.get(a, (13, 14))"
    assert judged(plus, first, half).scores == {"pass@1": 0.0, BASE: 1.0}
    weak = next(i for i in tasks["mbpp"].load() if i.doc["task_id"] == 367)
    assert judged(tasks["mbpp"], weak, weak.doc["code"]).extra["integrity"] == "weak"


def test_a_sandbox_that_fails_is_no_wrong_answer(tasks: dict[str, CodeTask], monkeypatch: pytest.MonkeyPatch) -> None:
    from forgetbench.scoring.sandbox import Result
    from forgetbench.tasks import code

    class Failing:
        def run(self, program: Program) -> Result:
            return Result("infra_error", "the sandbox failed: it does not answer")

    monkeypatch.setattr(code, "get_sandbox", lambda unsafe: Failing())
    task = tasks["humaneval"]
    [judged] = task.score(task.load()[0], Response("r", generations=(Generation("    pass", (1,), "stop"),)))
    assert (judged.outcome, judged.scores) == ("infra_error", {})
    assert judged.extra["execution"] == "infra_error"


def test_canonical(tasks: dict[str, CodeTask]) -> None:
    for task in tasks.values():
        assert len({i.key for i in task.load()}) == len(task.load())
        assert all(task.canonical(i.doc) == i.key for i in task.load())
        assert task.canonical({"question": "x"}) is None
