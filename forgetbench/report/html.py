"""One self-contained HTML file: no network, no script needed for the summary, model output never markup.

Three walls keep model output from acting: Jinja escapes what it writes, pairs travel as gzip + base64 in
inert elements and are shown through `textContent`, and a content security policy names the hashes of the only
script and style sheet that may run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from forgetbench import __version__
from forgetbench.analysis.types import Comparison
from forgetbench.gate.types import Verdict
from forgetbench.report import curves, lines, numbers, page, scatter, svg
from forgetbench.report.context import Context, build_context, comparison_ids
from forgetbench.report.drift import heat_maps
from forgetbench.report.embed import Embed, Embedded, pack
from forgetbench.report.figures import STEPS
from forgetbench.report.words import Words, load_words

STYLES = ("report.css", "figures.css", "answers.css", "behaviour.css", "drift.css")
SCRIPTS = ("report.js", "diff.js", "answers.js", "start.js")
"""In the order in which they are put into the page, as one."""

_STATES = {
    "PASS": {"sign": "✓", "word": "Pass", "css": "pass"},
    "FAIL": {"sign": "✕", "word": "Blocked", "css": "fail"},
    "INCONCLUSIVE": {"sign": "?", "word": "Inconclusive", "css": "open"},
}


def build_report(
    comparisons: Sequence[Comparison],
    verdicts: Sequence[Verdict],
    out: Path,
    *,
    title: str = "",
    banner: str = "",
    embed: Embed = "flips",
    lang: str = "en",
    seed: int = 0,
) -> Path:
    """Write the report and return its path. The same input gives the same bytes.

    `embed`: which pairs the file carries (`flips`: flips and a seeded sample of the rest). `banner` replaces
    the comparisons' own. Raises UsageError where the file cannot be written.
    """
    text = render(comparisons, verdicts, title=title, banner=banner, embed=embed, lang=lang, seed=seed)
    return page.write(text, Path(out))


def render(
    comparisons: Sequence[Comparison],
    verdicts: Sequence[Verdict],
    *,
    title: str = "",
    banner: str = "",
    embed: Embed = "flips",
    lang: str = "en",
    seed: int = 0,
) -> str:
    """The page as text. See `build_report`."""
    words = load_words(lang)
    context = build_context(comparisons, verdicts, title=title, banner=banner, words=words)
    _draw_drift(context, dict(zip(comparison_ids(comparisons), comparisons, strict=True)))
    embedded = pack(list(zip(comparison_ids(comparisons), comparisons, strict=True)), embed, seed)
    return render_context(context, embedded, words)


def render_context(context: Context, embedded: Embedded, words: Words) -> str:
    """Templates, style and script filled in and sealed by the policy."""
    style = page.assets(STYLES)
    script = '"use strict";\n(() => {\n' + page.assets(SCRIPTS) + "})();\n"
    environment = page.environment()
    environment.filters.update(
        points=numbers.points,
        whole_points=numbers.whole_points,
        figure=numbers.figure,
        plain_points=numbers.plain_points,
        score=numbers.score,
        rate=numbers.rate,
        p_value=numbers.p_value,
        count=numbers.count,
    )
    environment.globals.update(
        _=words,
        sentence=words.sentence,
        mark=svg.mark,
        plot_row=_plot_row,
        plot_axis=svg.axis,
        plot_scale=_plot_scale,
        spark=lines.spark,
        dumbbell=lines.dumbbell,
        bars=lines.bars,
        ring=lines.ring,
        diamond=lines.diamond,
        scatter=scatter.scatter,
        side_mark=scatter.side_mark,
        heat_legend=_heat_legend(),
        pass_curve=curves.pass_curve,
        cause_bar=curves.cause_bar,
    )
    return environment.get_template("report.html.j2").render(
        **context,
        lang=words.lang,
        version=__version__,
        states=_STATES,
        style=Markup(style),
        script=Markup(script),
        policy=page.content_security_policy(style, script),
        embedded=embedded,
        settings=Markup(_inert_json(_settings(context, embedded, words.words))),
    )


def _draw_drift(context: Context, comparisons: Mapping[str, Comparison]) -> None:
    """Heat maps of the weights. They escape their own names, and come in after all text was cleaned."""
    for one in context["candidates"]:
        for c in one["comparisons"]:
            found = comparisons[c["id"]].behaviour
            if found is not None and found.drift is not None:
                c["behaviour"]["drift"]["maps"] = heat_maps(found.drift)


def _inert_json(value: object) -> str:
    """JSON that cannot leave its <script type="application/json">."""
    text = json.dumps(value, separators=(",", ":"))  # ensure_ascii: no lone surrogates, no U+2028
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _settings(context: Context, embedded: Embedded, words: dict[str, str]) -> dict[str, Any]:
    return {
        "words": words,
        "comparisons": [
            {"id": c["id"], "base": c["base"], "candidate": c["candidate"], "tab": one["id"]}
            for one in context["candidates"]
            for c in one["comparisons"]
        ],
        "rows": sum(embedded.shown.values()),
    }


def _heat_legend() -> list[tuple[float | None, float | None, int]]:
    """(from, to, tint) of each tint of the heat map, losses first; None: without end."""
    edges = [-e for e in reversed(STEPS)] + list(STEPS)
    bounds = [None, *edges, None]
    return [(bounds[i], bounds[i + 1], i - len(STEPS)) for i in range(len(bounds) - 1)]


def _plot_scale(comparisons: Sequence[Context]) -> svg.Scale:
    """One axis for all plots of a candidate, so that lengths can be compared between them."""
    values: list[float] = []
    for comparison in comparisons:
        for view in comparison["views"]:
            for section in view["sections"]:
                for row in section["rows"]:
                    change = row["change"]
                    if not section["folded"]:
                        values += [change["delta"], change["interval"]["low"], change["interval"]["high"]]
                    if row["rule"]:
                        values.append(-row["rule"]["margin"])
    return svg.scale_for(values)


def _plot_row(scale: svg.Scale, row: Context) -> Markup:
    change, rule = row["change"], row["rule"]
    return svg.row(
        scale,
        delta=change["delta"],
        low=change["interval"]["low"],
        high=change["interval"]["high"],
        lower=change["lower"],
        direction=row["direction"],
        margin=rule["margin"] if rule else None,
        required=bool(rule and rule["required"]),
    )
