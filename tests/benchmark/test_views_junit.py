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
