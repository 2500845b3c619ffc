"""HumanEval (Chen et al. 2021, arXiv 2107.03374) and HumanEval+ (Liu et al. 2023, arXiv 2305.01210): 164
Python functions to complete from signature and docstring.

Prompts, stops and limits are those of lm-eval 0.4.13, checked item by item in tests/parity:

    raw    `humaneval` (version 1.0): the prompt itself; the program is prompt + output
    chat   `humaneval_instruct` (version 4.0): the answer is begun with a fenced block that repeats the prompt;
           the program is prompt + output up to the next fence

`pass@1,robust` looks for the program where that is none (scoring/extract_code.py): an answer that is fenced after all,
that repeats the function, or that lost its indentation.

Greedy, 1,024 new tokens, no shots. HumanEval+ asks the same (but for one prompt) and tests with about 80 times
as many cases; its data is EvalPlus v0.1.10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forgetbench.scoring.extract_code import robust_program
from forgetbench.tasks.code import PASS, ROBUST, Answer, CodeTask, Tests, check_python, read_docs
from forgetbench.tasks.extras import no_shots
from forgetbench.types import Item, PromptSpec

STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MAX_TOKENS = 1024
FENCE = "```"
_TEXTS = ("task_id", "prompt", "canonical_solution", "entry_point", "test")


class HumanEval(CodeTask):
    """The HumanEval task; see the module's docstring."""

    name = "humaneval"
    version = "1.0"
    metrics: tuple[str, ...] = (PASS, ROBUST)
    folder, stem = "humaneval", "HumanEval"
    hub = ("openai/openai_humaneval", "openai_humaneval/test-00000-of-00001.parquet")

    def docs(self) -> list[tuple[str, dict[str, Any]]]:
        docs = read_docs(self._source, self.folder, self.stem, self.hub, _TEXTS)
        check_python(docs, self.reference)
        return docs

    def content(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        return {"prompt": doc["prompt"]}

    def reference(self, doc: Mapping[str, Any]) -> str:
        return f"{doc['prompt']}{doc['canonical_solution']}"

    def tests(self, doc: Mapping[str, Any]) -> Sequence[Tests]:
        return (Tests(self.metrics[0], f"{doc['test']}\ncheck({doc['entry_point']})"),)

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        no_shots(self.name, num_fewshot)
        prompt = item.doc["prompt"]
        if self.style == "raw":
            return PromptSpec("generate", question=prompt, stop=STOP, max_tokens=MAX_TOKENS)
        asked = "Write a solution to the following problem and make sure that it passes the tests:\n"
        return PromptSpec(
            "generate",
            question=f"{asked}{FENCE}python\n{prompt}\n{FENCE}\n",
            prefill=f"Here is the completed function:\n{FENCE}python\n{prompt}\n",
            stop=STOP,
            max_tokens=MAX_TOKENS,
        )

    def read(self, doc: Mapping[str, Any], text: str) -> Answer:
        body = text if self.style == "raw" else text.split(FENCE, 1)[0]
        program = f"{doc['prompt']}{body}"
        robust = robust_program(doc["prompt"], doc["entry_point"], body, text)
        return Answer(body if body.strip() else None, program, None if robust == program else robust)


class HumanEvalPlus(HumanEval):
    """HumanEval with the tests of EvalPlus."""

    name = "humaneval_plus"
    folder, stem = "humaneval_plus", "HumanEvalPlus-OriginFmt"
    wall_seconds = 30.0
    """Its tests take the reference solutions up to 11 s (docs/parity.md)."""
    hub = ("evalplus/humanevalplus", "data/test-00000-of-00001-5973903632b82d40.parquet")
