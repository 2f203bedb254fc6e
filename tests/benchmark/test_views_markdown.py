"""The markdown begins with the verdict and keeps its tables whatever a name holds."""

import re

from tests.benchmark.reports import GATES, HOSTILE, make_report
from theseus_deploy.benchmark.views import markdown


def test_markdown_keeps_its_tables_whatever_the_name() -> None:
    text = markdown.render(make_report(HOSTILE, gates=GATES))
    assert "<script>" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    assert set(widths) == {11, 7, 6, 9}


def test_markdown_begins_with_the_verdict_and_the_winner() -> None:
    first, _, second, *_ = markdown.render(make_report(gates=GATES[:1])).splitlines()
    assert first == "## theseus benchmark: ✅ pass"
    assert second.startswith("**small (onnxruntime) is ")
