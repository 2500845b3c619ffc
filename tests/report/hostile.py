"""A comparison in which every string that comes from a model or a file tries to do harm."""

from __future__ import annotations

from dataclasses import replace

from forgetbench.analysis.types import Comparison
from forgetbench.gate.types import Verdict
from tests.report.sample import changes_of, make_pairs, side_info, verdict_of

SCRIPT = "</script></style></pre><script>document.title='pwned'</script>"
HANDLER = "<img src=x onerror=\"document.title='pwned'\"><svg onload=document.title='pwned'>"
ATTRIBUTE = "\" onmouseover=\"document.title='pwned'\" x='"
TEMPLATE = "{{ 7 * 7 }}{% raw %}${alert(1)}{missing}[bold]markup[/bold]"
COMMENT = "<!--<script> ]]> -->"
BIDI = "right \u202e tfel \u2066iso\u2069 mark\u200f zero\u200bwidth"
CONTROL = "nul\x00 bell\x07 esc\x1b[31mred\x1b[0m cr\rx \x9b2J"
SURROGATE = "half \ud83d and \udcff end"
LINK = "javascript:document.title='pwned'"
HUGE = "START " + "x" * 5_000_000 + " END"

ALL = (SCRIPT, HANDLER, ATTRIBUTE, TEMPLATE, COMMENT, BIDI, CONTROL, SURROGATE, LINK)


def hostile(huge: bool = True) -> tuple[list[Comparison], list[Verdict]]:
    """Aliases, tasks, abilities, notes, manifests, reasons and answers, all hostile."""
    bad = " ".join(ALL)
    pairs = make_pairs("task" + SCRIPT, "ability" + HANDLER + "/sub" + BIDI, 60, 0.8, 0.4)
    texts = [*ALL, HUGE] if huge else list(ALL)
    pairs = [
        replace(
            p,
            prompt=text,
            candidate_prompt=bad,
            gold=text,
            source=bad,
            stratum=bad,
            content_hash=f"{i:04d}",
            base=replace(p.base, output=text, extracted=text, why=bad, mean_logprob=float("nan")),
            candidate=replace(p.candidate, output=text, extracted=None, why=text, score=p.candidate.score),
        )
        for i, p in enumerate(pairs)
        for text in [texts[i % len(texts)]]
    ]
    found = Comparison(
        base=replace(side_info("base" + SCRIPT), manifest={bad: {"nested": [bad, 1, None]}}, run_path=bad),
        candidate=replace(side_info("cand" + ATTRIBUTE + SURROGATE), fingerprint=bad),
        suite=bad,
        changes=changes_of(pairs),
        pairs=tuple(pairs),
        notes=(bad, *ALL),
        manifest_differences=((bad, bad, bad),),
        banner=bad,
    )
    verdict = verdict_of(found, found.candidate.alias)
    rules = tuple(replace(r, reason=bad, notice=bad) for r in verdict.rules)
    return [found], [replace(verdict, reason=bad, notes=ALL, rules=rules)]
