"""The HTML report is whole, fetches nothing, and shows what differs and how much less each is."""

import re

from tests.benchmark.page import Page
from tests.benchmark.reports import GATES, HOSTILE, SHAPES, make_report
from theseus_deploy.benchmark.views import html


def test_html_is_whole_and_fetches_nothing() -> None:
    text = html.render(make_report("a (torch)", "b (torch)", gates=GATES))
    page = Page(text)
    assert page.fetched == []
    assert page.scripts == 1
    assert not re.search(r"https?://|@import|url\(", text)
    forest, waterfall, pareto, everyone = 1, 1, 1, 3
    assert text.count("<svg") == 2 * (forest + waterfall + len(SHAPES) + pareto) + len(GATES) + everyone


def test_html_escapes_a_hostile_name() -> None:
    text = html.render(make_report(HOSTILE))
    assert Page(text).scripts == 1
    assert "<script>alert" not in text
    assert "\x00" not in text
    assert "\x1b" not in text


def test_html_shows_where_the_labels_differ_and_escapes_the_texts() -> None:
    for kind in ("single-label", "multi-label", "tokens"):
        text = html.render(make_report(kind=kind, text=HOSTILE))
        assert Page(text).scripts == 1
        assert "<script>alert" not in text
        assert "\x1b" not in text
        assert "6 of 96" in text
        assert "right on 4 of them; the candidate on 2" in text
    assert "Where the labels differ" not in html.render(make_report(kind="regression"))


def test_the_ledger_of_size_says_how_much_less_each_is() -> None:
    text = html.render(make_report())
    ledger = text[text.index("Ledger of size") : text.index("Every shape")]
    assert "−0.0" in ledger
    assert "0.50x" in ledger
    assert "100% of the greatest" in ledger
    assert "50% of the greatest" in ledger
