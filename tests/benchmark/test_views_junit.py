"""The JUnit report has a case for each gate."""

from dataclasses import replace
from xml.etree import ElementTree

from tests.benchmark.reports import GATES, HOSTILE, make_report
from theseus_deploy.benchmark.views import junit


def test_junit_has_a_case_for_each_gate() -> None:
    root = ElementTree.fromstring(
        junit.render(make_report(HOSTILE, gates=(*GATES, replace(GATES[0], candidate=HOSTILE))))
    )
    assert {name: root.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "4", "failures": "1", "errors": "1",
    }  # fmt: skip
    cases = root.findall("testsuite/testcase")
    assert [[child.tag for child in case] for case in cases] == [[], ["failure"], ["error"], []]
    assert "the limit ≤ 0.01" in str(cases[1][0].get("message"))


def test_control_characters_of_others_processes_leave_it_xml() -> None:
    report = make_report()
    report.environment["noise"]["remarks"] = ["Others kept 1 core busy (a\x1b[31m 0.9): stop them."]
    gates = tuple(replace(gate, reason="a\x07b") for gate in report.gates)
    text = junit.render(replace(report, gates=gates))
    assert "Others kept 1 core busy (a\N{REPLACEMENT CHARACTER}[31m" in "".join(ElementTree.fromstring(text).itertext())
