"""Any task or group of lm-eval's (ARC, HellaSwag, BBH, CMMLU, ...) as a task of ours: `task: "lm_eval:arc_easy"`.

Prompts, worked examples, filters and scores are lm-eval 0.4.13's own code, checked item by item against its own
run in tests/tasks; planning, engines, cache, records and everything after them are ours. What differs:

- Decoding is the suite's: a task that samples in lm-eval is asked greedily, and its warning says so.
- Metrics without a value for each item are left out (tasks/lm_eval_metrics.py).
- The likelihood of a whole text is one question. A text longer than the context is an infra_error that names the
  limit, where lm-eval would roll a window over it; and before the text there is one BOS, where lm-eval's model has
  two if the tokenizer adds one of its own.
- Tasks that run programs are refused: lm-eval has no sandbox.

A group is one task: each of its tasks is a stratum, and the score is the mean over items (lm-eval's
`weight_by_size`). An item is what its document asks, without the answer: task, text and options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.scoring.outcome import failed_samples
from forgetbench.tasks.base import BRIDGE, content_hash, folder_name
from forgetbench.tasks.items import Finder, KeyMaker
from forgetbench.tasks.lm_eval_judge import choices_of, gold_of, judge
from forgetbench.tasks.lm_eval_load import Leaf, load_leaves, version_of
from forgetbench.tasks.lm_eval_metrics import common
from forgetbench.tasks.lm_eval_prompts import OWN_SHOTS, Prompts, make_instances, samples
from forgetbench.types import Item, ItemKey, Judged, PromptSpec, Response, Style


class LmEvalTask:
    """A task or group of lm-eval; see the module's docstring."""

    default_num_fewshot: Mapping[Style, int] = {"raw": OWN_SHOTS, "chat": OWN_SHOTS}

    def __init__(
        self, bridged: str, *, name: str | None = None, include: Path | None = None, task_type: str | None = None
    ) -> None:
        """Loads the documents. Raises UsageError in one line: no such task, no lm-eval, no data."""
        self.name = name or folder_name(bridged)
        self._bridged = bridged
        self._leaves = load_leaves(bridged, include, task_type)
        self._metrics = common(bridged, self._leaves)
        self._prompts = tuple(Prompts(leaf) for leaf in self._leaves)
        self._style: Style = "raw"
        self._finders: dict[int, Finder] = {}
        self.version = version_of(self._leaves)
        self.metrics = tuple(m.name for m in self._metrics.kept)
        self.binary = self._metrics.binary
        self.warning = self._warn()
        key_of = KeyMaker(self.name)
        self._where: dict[ItemKey, tuple[int, int]] = {}
        """Item -> (which leaf, which document)."""
        self._items = tuple(
            self._item(n, position, key_of) for n, leaf in enumerate(self._leaves) for position in range(len(leaf.docs))
        )

    def load(self) -> Sequence[Item]:
        """All items in lm-eval's order, the tasks of a group one after the other."""
        return self._items

    def in_style(self, style: Style) -> LmEvalTask:
        """The same task, its documents and prompts shared, asked in a style."""
        styled = object.__new__(LmEvalTask)
        styled.__dict__.update(self.__dict__)
        styled._style = style
        return styled

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        """`num_fewshot`: OWN_SHOTS for what each task has of its own; a task that sets 0 keeps 0."""
        leaf, position = self._where[item.key]
        return self._prompts[leaf].spec(position, self._style, num_fewshot)

    def right_options(self, item: Item) -> tuple[int, ...]:
        """As the task's YAML names them; the document's own fields may mean anything."""
        leaf, position = self._where[item.key]
        return tuple(gold_of(self._leaves[leaf], position)[0])

    def score(self, item: Item, response: Response) -> list[Judged]:
        """lm-eval's filters and `process_results` on the answers to all questions of the item."""
        failed = failed_samples(response)
        if failed is not None:
            return failed
        n, position = self._where[item.key]
        leaf = self._leaves[n]
        # What is asked differs by style and shots, the number and kinds of questions do not.
        return judge(leaf, position, make_instances(leaf, position, "raw", 0), self._metrics, response)

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        """The item of a document as lm-eval logs it; in a group, of the first task that knows it."""
        for n, leaf in enumerate(self._leaves):
            try:
                content = _content(leaf, doc)
            except Exception:  # a document of another task: its template misses fields
                continue
            if n not in self._finders:
                mine = [i for i in self._items if self._where[i.key][0] == n]
                self._finders[n] = Finder(mine, (_content(leaf, i.doc) for i in mine))
            key = self._finders[n].find(content)
            if key is not None:
                return key
        return None

    def _item(self, n: int, position: int, key_of: KeyMaker) -> Item:
        leaf = self._leaves[n]
        doc = leaf.docs[position]
        try:
            key = key_of(_content(leaf, doc))
            options = choices_of(leaf, position)
            places, gold = gold_of(leaf, position)
        except Exception as error:  # a document that the task's own template or functions fail on
            line = " ".join(str(error).split())[:200]
            problem = f"the task's YAML does not fit its document ({type(error).__name__}: {line})"
            raise UsageError(leaf.source(position), problem, "check the data file, or the YAML") from None
        self._where[key] = n, position
        return Item(
            key=key,
            task_type=leaf.task_type,
            doc=doc,
            gold=gold,
            gold_hash=content_hash({"answer": places or gold}),
            stratum=leaf.stratum,
            n_choices=len(options) or None,
            source=leaf.source(position),
        )

    def _warn(self) -> str | None:
        """One line on what is not as in lm-eval's own run; None where nothing is."""
        parts = []
        if self._metrics.left_out:
            parts.append(
                f"{', '.join(self._metrics.left_out)} left out (no value for each item that all its tasks have, or "
                "lower is better)"
            )
        drawn = [leaf.name for leaf in self._leaves if samples(leaf.task.config.generation_kwargs or {})]
        if drawn:
            parts.append(f"asked greedily where lm-eval samples ({', '.join(drawn[:3])})")
        return f"{self.name} ({BRIDGE}{self._bridged}): {'; '.join(parts)}" if parts else None


def _content(leaf: Leaf, doc: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked, the answer excluded."""
    task = leaf.task
    content: dict[str, Any] = {"task": leaf.name}
    if getattr(task.config, "doc_to_choice", None) is not None:
        content["choices"] = [str(c) for c in task.doc_to_choice(doc)]
    if getattr(task, "multiple_input", 0):
        content["text"] = str(task.doc_to_target(doc))  # follows each option; the text is the right option's place
    elif task.OUTPUT_TYPE == "loglikelihood_rolling":
        content["text"] = str(task.doc_to_target(doc))
    else:
        content["text"] = str(task.doc_to_text(doc))
    return content
