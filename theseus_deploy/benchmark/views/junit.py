"""The gates as JUnit XML: one test case a gate.

A failed gate is a `failure`. An inconclusive one is an `error`: the test could not be carried out well enough, and a
`skipped` would look green.
"""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.views import words

ELEMENTS = {"fail": "failure", "inconclusive": "error"}


def render(report: BenchmarkReport) -> str:
    """Return the report's gates as JUnit XML."""
    count = {verdict: str(sum(gate.verdict == verdict for gate in report.gates)) for verdict in ELEMENTS}
    totals = {"tests": str(len(report.gates)), "failures": count["fail"], "errors": count["inconclusive"]}
    suites = Element("testsuites", totals)
    suite = SubElement(suites, "testsuite", {"name": "theseus benchmark", **totals})
    for gate in report.gates:
        case = SubElement(suite, "testcase", {"classname": words.plain(gate.candidate), "name": gate.name})
        if element := ELEMENTS.get(gate.verdict):
            SubElement(case, element, {"message": words.gate_line(gate), "type": gate.verdict})
    SubElement(suite, "system-out").text = "\n".join(
        [
            words.verdict_line(report),
            words.winner_line(report),
            *words.since_lines(report),
            words.gain_line(report),
            words.noise_line(report),
        ]
    )
    indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suites, encoding="unicode") + "\n"
