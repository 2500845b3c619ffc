"""Every fixed string has a translation, and a translated sentence says the same figures as the gate's own."""

from __future__ import annotations

import ast
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from forgetbench import resources
from forgetbench.analysis.types import Comparison
from forgetbench.errors import UsageError
from forgetbench.gate.types import Policy, Rule, Verdict, Waiver
from forgetbench.gate.verdict import decide
from forgetbench.report import reasons
from forgetbench.report.html import SCRIPTS, render
from forgetbench.report.words import SPOKEN, Words, languages, load_words
from tests.analysis.made import compared, frame, table, toy
from tests.gate.test_verdict import rules_for, several
from tests.report.hostile import hostile
from tests.report.sample import demo, mmlu

pytestmark = pytest.mark.unit


def fixed_strings() -> set[str]:
    """What templates, scripts and reasons.py hand to the translator as a literal."""
    folder = resources.path("reports")
    environment = jinja2.Environment(extensions=["jinja2.ext.i18n"])
    found: set[str] = set()
    for template in folder.glob("*.j2"):
        for _, _, message in environment.extract_translations(template.read_text(encoding="utf-8")):
            found |= {message} if isinstance(message, str) else {message[0]} if message else set()
    for script in SCRIPTS:
        text = (folder / script).read_text(encoding="utf-8")
        found |= {json.loads(f'"{m}"') for m in re.findall(r'\bt\("((?:[^"\\]|\\.)*)"', text)}
    for node in ast.walk(ast.parse(Path(reasons.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "words" and node.args:
            found |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
    return found | set(SPOKEN)


@pytest.mark.parametrize("lang", [x for x in languages() if x != "en"])
def test_every_fixed_string_has_a_translation(lang: str) -> None:
    words = load_words(lang).words
    wanted = fixed_strings()
    assert len(wanted) > 150  # the search above finds what it should
    assert sorted(wanted - words.keys()) == []
    named = {"the base", "the locked release", "the previous checkpoint", "candidate"}  # stand in sentences
    assert sorted(words.keys() - wanted - named) == []  # nothing is translated that is no longer said


@pytest.mark.parametrize("lang", [x for x in languages() if x != "en"])
def test_placeholders_are_the_same(lang: str) -> None:
    catalogue = load_words(lang)

    def holes(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text))

    for english, told in catalogue.words.items():
        assert holes(told) == holes(english), english
    for english, told in catalogue.sentences.items():
        assert holes(told) <= holes(english), english
        assert told.format(**dict.fromkeys(holes(english), "x"))


def test_every_string_of_a_page_is_known() -> None:
    """What is handed over as a value (a view, an outcome, a severity) is in the catalogue too."""
    asked: set[str] = set()

    class Listening(Words):
        def __call__(self, text: str, **values: object) -> str:
            asked.add(text)
            return super().__call__(text, **values)

    from forgetbench.report import html

    words = load_words("zh")
    listening = Listening("zh", words.words, words.sentences)
    for data in (demo(), mmlu(600)):
        context = html.build_context(*data, words=listening)
        ids = [(str(i), c) for i, c in enumerate(data[0])]
        html.render_context(context, html.pack(ids), listening)
    assert sorted(asked - words.words.keys()) == []
    assert len(asked) > 80


def test_chinese_page_is_chinese_and_keeps_names() -> None:
    page = render(*demo(), lang="zh")
    assert '<html lang="zh">' in page
    assert "拦下" in page
    assert "knowledge/capitals" in page
    assert "What the verdict rests on" not in page.split('id="settings"')[0]


def figures(text: str) -> set[float]:
    """The numbers in a sentence, signs and needless decimals aside."""
    return {float(x) for x in re.findall(r"(?<![a-zA-Z\d.])\d+(?:\.\d+)?", text.replace(",", ""))}


POLICIES: dict[str, tuple[Comparison, tuple[Rule, ...]]] = {
    "pass": (toy(10, 10, 400), (Rule("toy", task="toy"),)),
    "fail": (toy(120, 10, 400), (Rule("toy", task="toy"),)),
    "open": (toy(24, 10, 400), (Rule("toy", task="toy"),)),
    "notice": (toy(1_200, 500, 20_000), (Rule("toy", task="toy"),)),
    "a rule that passes blocks": (
        several(big=(1_200, 500, 20_000), small=(2, 2, 50)),
        tuple(rules_for("big", "small")),
    ),
    "many lost": (several(**dict.fromkeys("abcde", (90, 5, 300))), tuple(rules_for(*"abcde"))),
    "too few": (toy(2, 2, 50), (Rule("toy", task="toy", min_n=100),)),
    "no such task": (toy(2, 2, 50), (Rule("other", task="other"),)),
    "no such metric": (toy(2, 2, 50), (Rule("toy", task="toy", metric="nope"),)),
    "no such run": (toy(2, 2, 50), (Rule("toy", task="toy", against="locked"),)),
    "advisory": (
        several(good=(5, 5, 1_000), bad=(90, 5, 300)),
        (Rule("good", task="good"), Rule("bad", task="bad", required=False)),
    ),
    "nothing required": (toy(2, 2, 50), (Rule("toy", task="toy", required=False),)),
    "truncated": (
        compared(
            *(frame(v, outcome=["truncated"] * 40 + ["ok"] * 160) for v in table(5, 5, 200)),
        ),
        (Rule("toy", task="toy"),),
    ),
}


@pytest.mark.parametrize("case", POLICIES)
def test_a_reason_made_anew_says_what_the_gate_says(case: str) -> None:
    comparison, rules = POLICIES[case]
    verdict: Verdict = decide({"base": comparison}, Policy("test", rules, 0.05), draws=1_000)
    zh = load_words("zh")
    told = reasons.reason_sentence(verdict, zh)
    assert figures(told) == figures(verdict.reason), (told, verdict.reason)
    assert re.search(r"[\u4e00-\u9fff]", told)
    for result in verdict.rules:
        told = reasons.rule_reason(result, zh)
        assert figures(told) == figures(result.reason), (told, result.reason)
        rest = told.replace(result.rule.name, "").replace("nope", "").replace("other", "")
        assert re.findall(r"[a-zA-Z]{2,}", rest) == [], told  # nothing is left in English
        assert bool(reasons.rule_notice(result, zh)) == bool(result.notice)
        assert reasons.rule_reason(result, Words()) == result.reason
    for line in verdict.notes:
        if line != f"{verdict.rules[0].rule.name}: {verdict.rules[0].notice}":  # notices stand with their rules
            assert re.search(r"[\u4e00-\u9fff]", reasons.note(line, verdict, zh)), line


def test_notes_of_a_comparison_are_recognised() -> None:
    zh = load_words("zh")
    for line, wanted in (
        ("chat view not compared: base has no records of it (a checkpoint without a chat template has none)", "base"),
        ("mmlu (chat): the rendered prompt differs (each has its own template) on 3 of 9 items (mmlu:ab12#0)", "3"),
        (
            "3 chat rules are not in force: neither the base nor a locked or previous checkpoint has a chat template",
            "3",
        ),
        ("against the locked release: toy (chat) is not complete in v1", "v1"),
        (
            "training data: a.jsonl holds 5 of 3,317 items (2 word for word, 2 by 13 words in a row, 1 nearly)",
            "a.jsonl",
        ),
        ("training data: a.jsonl holds none of 99 items", "99"),
    ):
        told = zh.sentence(line)
        assert wanted in told
        rest = told.replace("base", "").replace("mmlu:ab12#0", "").replace("mmlu", "").replace("toy", "")
        assert re.findall(r"[a-z]{3,}", rest.replace("a.jsonl", "")) == [], told
    assert zh.sentence("a line nobody knows (7)") == "a line nobody knows (7)"


def test_an_unknown_language_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="choose one of: en, zh"):
        load_words("xx")


def test_hostile_lines_take_no_time() -> None:
    zh = load_words("zh")
    start = time.process_time()
    for line in ("x (y): 1 of " * 80, " of " * 240, ": " * 480, "({[" * 300, "mmlu (" + "chat) " * 150):
        zh.sentence(line[:999])
    assert time.process_time() - start < 2
    page = render(*hostile(huge=False), lang="zh")
    assert "\u202e" not in page


def test_waivers_and_alarms_are_recognised() -> None:
    zh = load_words("zh")
    alarm = Rule("toy", task="toy", margin=0.01, required=False)
    waiver = Waiver("a new tone", "ops", "2026-12-31", 0.30, rule="toy")
    for forgotten, day, cap in (
        (80, "2026-06-30", 0.30),
        (80, "2027-06-30", 0.30),
        (80, "2026-06-30", 0.21),
        (0, "2026-06-30", 0.3),
    ):
        verdict = decide(
            {"base": toy(forgotten, 0, 400)},
            Policy("test", (Rule("toy", task="toy"),), alarms=(alarm,)),
            draws=500,
            waivers=[replace(waiver, max_drop=cap)],
            today=day,
        )
        for line in (verdict.waivers[0].line, verdict.alarms[0].line):
            told = reasons.note(line, verdict, zh)
            assert re.search(r"[\u4e00-\u9fff]", told), line
        assert "ops" in reasons.note(verdict.waivers[0].line, verdict, zh)
