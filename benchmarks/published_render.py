"""What was found as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from benchmarks.published_types import Difference, Family, Reading, Score

HEADER = """# Published outputs, scored again

Answers of real models that their authors published, with a score and in part with a verdict on every item, put through
the tasks of this project. Where a figure or an item differs, the table says whose fault it is. Everything below is
printed by

    {command}

at commit {commit}{part}. Every published figure is as the data's README quotes it; several were quoted there from
memory.

- **ours, published**: percent. **labelled**: items with a published verdict, or one that follows from the published
  scorer's own rule. **differ**: those of them that are judged otherwise here; each stands under "Items that differ".
- `exact_match,flexible`, `pass@1`, `acc`, ... are the defaults, equal to lm-eval's. `exact_match,robust` and
  `pass@1,robust` are second metrics of this project's own and never a default.
"""
READINGS = """
## How answers are read

**Missed**: right by the label, and not found or not recognised. **Accepted**: wrong by the label, and taken for right.
Labels that are wrong themselves (fault: theirs) are not counted. The robust readings were written with these sets in
sight: on other outputs they may do worse than here. The 500 answers of BBH are the only ones held out.

HumanEval's rows are about the bare answers of the Gemini benchmark, which came without their leading blanks: as
"prompt + output", lm-eval's reading, most of them are no programs.
"""
NOT_SCORED: Mapping[str, str] = {
    "alignbench_deepseek67b": "answers only, to be judged by a model; no score by item to compare with",
    "alpaca_eval_phi2_base_sft_dpo": "preferences of a judge; no task of ours asks one",
    "base_vs_sft_code": "pass rates without programs: nothing to score; they enter by `forgetbench import`",
    "bbh_codex, the other 12 tasks and the direct answers": "no task of ours; lm-eval's is reached by the bridge",
    "mmlu_pro_base_vs_instruct": "no task of ours; lm-eval's is reached by the bridge",
    "vicuna80_gpt4_reviews": "reviews by a judge; no task of ours asks one",
}


def render(families: Sequence[Family], command: str, commit: str, quick: bool) -> str:
    part = ", a part: 10 of CodeGen's 100 samples, 50 of 164 bare answers, 100 of TruthfulQA's 817" if quick else ""
    differences = [d for f in families for d in f.differences]
    lines = [
        HEADER.format(command=command, commit=commit, part=part),
        "## Scores\n",
        *score_table(s for f in families for s in f.scores),
        "",
        *(f"- {note}" for f in families for note in f.notes),
        READINGS,
        *reading_table(r for f in families for r in f.readings),
        "\n## Items that differ\n",
        *fault_table(differences),
        "",
        *difference_lists(differences),
        "\n## Not scored\n",
        "| set | why |",
        "|---|---|",
        *(f"| {name} | {why} |" for name, why in NOT_SCORED.items()),
    ]
    return "\n".join(lines) + "\n"


def score_table(scores: Iterable[Score]) -> list[str]:
    lines = [
        "| set | system | metric | n | ours | published | labelled | differ | |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for s in scores:
        published = "" if s.published is None else f"{s.published:.2f}"
        labelled, differ = (str(s.labelled), str(s.differ)) if s.labelled else ("", "")
        lines.append(
            f"| {s.set} | {s.system} | {s.metric} | {s.n:,} | {s.ours:.2f} | {published} | {labelled} | {differ} "
            f"| {s.note} |"
        )
    return lines


def reading_table(readings: Iterable[Reading]) -> list[str]:
    """Systems of one set are added up where they were held against the same thing."""

    def key(r: Reading) -> tuple[str, str, str]:
        return r.set, r.metric, r.against

    lines = ["| set | metric | outputs | missed | accepted | against |", "|---|---|--:|--:|--:|---|"]
    order: dict[tuple[str, str, str], list[Reading]] = {}
    for reading in readings:
        order.setdefault(key(reading), []).append(reading)
    for (name, metric, against), found in order.items():
        n, missed, accepted = sum(r.n for r in found), sum(r.missed for r in found), sum(r.accepted for r in found)
        lines.append(f"| {name} | {metric} | {n:,} | {missed} | {accepted} | {against} |")
    return lines


def fault_table(differences: Sequence[Difference]) -> list[str]:
    lines = ["| set | metric | fault | why | items |", "|---|---|---|---|--:|"]
    found: dict[tuple[str, str, str, str], int] = {}
    for d in differences:
        found[d.set, d.metric, d.fault, d.why] = found.get((d.set, d.metric, d.fault, d.why), 0) + 1
    return [*lines, *(f"| {s} | {m} | {fault} | {why} | {n} |" for (s, m, fault, why), n in found.items())]


def difference_lists(differences: Sequence[Difference]) -> list[str]:
    """Item by item, those with the same cause together."""

    def key(d: Difference) -> tuple[str, str, str, str, str]:
        return d.set, d.system, d.metric, d.fault, d.why

    lines = []
    for (name, system, metric, fault, why), group in groupby(sorted(differences, key=key), key):
        lines.append(f"**{name}, {system}, {metric}** ({fault}: {why})")
        lines += [f"- {d.item}: {_code(d.ours)} here, {_code(d.theirs)} there" for d in group]
        lines.append("")
    return lines


def _code(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
