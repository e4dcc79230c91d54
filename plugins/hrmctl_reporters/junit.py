"""JUnit XML. What is not proven is a failure or an error, never `skipped`: CI shows skipped tests as green."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl_reporters import view

ANSWERS = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)


def report(check: CheckReport) -> str:
    """The check as JUnit XML: a suite of claims, and one of hypotheses where there are any.

    Any answer passes a hypothesis's case and is told in its output. A check of nothing is an error.
    """
    root = ET.Element("testsuites", name=view.plain(f"hrmctl check {check.check}"))
    required, asked = view.claims(check.judgements), view.hypotheses(check.judgements)
    if not check.judgements:
        case = ET.SubElement(
            ET.SubElement(root, "testsuite", name="claims"), "testcase", classname="hrmctl", name="check"
        )
        ET.SubElement(case, "error", type="UNTESTED", message=view.NOTHING)
    if required:
        _suite(root, "claims", required)
    if asked:
        _suite(root, "hypotheses", asked)
    for suite in root:
        _count(suite, [suite])
    _count(root, list(root))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(root: ET.Element, name: str, judgements: Sequence[Judgement]) -> None:
    suite = ET.SubElement(root, "testsuite", name=name)
    for judgement in judgements:
        subject = judgement.obligation.removeprefix(f"{judgement.contract}/")
        case = ET.SubElement(
            suite, "testcase", classname=view.plain(judgement.contract), name=view.plain(subject), time="0"
        )
        _properties(case, judgement)
        _outcome(case, judgement)
        ET.SubElement(case, "system-out").text = _output(judgement)


def _properties(case: ET.Element, judgement: Judgement) -> None:
    found = [(f"{m}.{key}", value) for m, values in judgement.measured.items() for key, value in values.items()]
    if not found:
        return
    properties = ET.SubElement(case, "properties")
    for name, value in found:
        ET.SubElement(properties, "property", name=view.plain(name), value=view.plain(str(value)))


def _outcome(case: ET.Element, judgement: Judgement) -> None:
    passed = ANSWERS if judgement.kind == "hypothesis" else (Verdict.PASS,)
    if judgement.verdict in passed:
        return
    tag = "failure" if judgement.verdict == Verdict.FAIL else "error"
    message = view.explanation(judgement) or view.word(judgement)
    ET.SubElement(case, tag, type=judgement.verdict.value, message=message).text = view.plain(judgement.remedy)


def _output(judgement: Judgement) -> str:
    why = view.explanation(judgement) if judgement.verdict != Verdict.PASS else ""
    lines = [view.plain(judgement.title), f"{judgement.verdict.value} ({view.word(judgement)})", why]
    return "\n".join(line for line in [*lines, *view.headlines(judgement.measured)] if line)


def _count(element: ET.Element, suites: Sequence[ET.Element]) -> None:
    def number(tag: str) -> str:
        return str(sum(len(suite.findall(tag)) for suite in suites))

    element.set("tests", number("testcase"))
    element.set("failures", number("testcase/failure"))
    element.set("errors", number("testcase/error"))
    element.set("skipped", "0")
