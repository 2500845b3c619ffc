"""JUnit XML: a suite for each candidate, in it a case for the verdict and one for each rule of the policy.

| case | element | type |
|---|---|---|
| passed | none | |
| a proven loss that blocks | failure | FAIL |
| a required rule that could not be decided | failure | INCONCLUSIVE: readers of JUnit take a skip for harmless |
| advisory, waived, or an earlier candidate's | skipped | its state stands in the text |
| no verdict (bad config, runs that cannot be paired) | error | ERROR |

So the file is red exactly when the exit code is not 0: also where a verdict blocks and every rule alone would pass,
because of the verdict's own case. Figures are properties of the suite, named `<rule>.<figure>`: strict schemas
(Jenkins' xUnit plugin, junit-10.xsd) know none inside a case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree as ET

from forgetbench.report.ci.outcome import Case, Outcome, Standing, cases
from forgetbench.report.text import visible

_ELEMENTS: dict[Standing, tuple[str, str]] = {
    "blocked": ("failure", "FAIL"),
    "undecided": ("failure", "INCONCLUSIVE"),
    "error": ("error", "ERROR"),
    "shown": ("skipped", "ADVISORY"),
}
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped (section 2.2, Char)."""


def junit(outcome: Outcome) -> str:
    """The whole file."""
    found = cases(outcome)
    top = ET.Element("testsuites", {"name": "forgetbench", **_counts(found)})
    for group, members in groupby(found, key=lambda c: c.group):
        _suite(top, group, list(members))
    ET.indent(top)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(top, encoding="unicode")}\n'


def _counts(found: Sequence[Case]) -> dict[str, str]:
    elements = [_ELEMENTS[c.standing][0] for c in found if c.standing in _ELEMENTS]
    return {
        "tests": str(len(found)),
        "failures": str(elements.count("failure")),
        "errors": str(elements.count("error")),
    }


def _suite(top: ET.Element, group: str, members: Sequence[Case]) -> None:
    skipped = str(sum(c.standing == "shown" for c in members))
    suite = ET.SubElement(top, "testsuite", {"name": _text(group), "skipped": skipped, **_counts(members)})
    properties = ET.SubElement(suite, "properties")
    for case in members:
        for name, value in case.figures:
            ET.SubElement(properties, "property", name=_text(f"{case.name}.{name}"), value=_text(value))
    for case in members:
        element = ET.SubElement(suite, "testcase", classname=_text(f"forgetbench.{group}"), name=_text(case.name))
        if case.standing in _ELEMENTS:
            kind, label = _ELEMENTS[case.standing]
            ET.SubElement(element, kind, type=label, message=_text(case.text)).text = _text(case.text)
        else:
            ET.SubElement(element, "system-out").text = _text(case.text)


def _text(text: str) -> str:
    return _NOT_XML.sub("�", visible(text))
