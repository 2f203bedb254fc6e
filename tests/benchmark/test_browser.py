"""The HTML report in a real browser: it renders, fits, sorts, prints, and asks the network for nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark.reports import with_everything
from theseus_deploy.benchmark.report import Gate
from theseus_deploy.benchmark.views import html

pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NAMES = ("a-successor-of-a-rather-long-name-3-layers-int8 (onnxruntime)", "c (torch)", "b (onnxruntime)")
GATES = (
    Gate("p50-ratio", NAMES[0], 0.6, 0.5, (0.49, 0.51), "pass"),
    Gate("metric-drop", NAMES[0], 0.01, 0.0, (-0.0011, 0.0011), "pass"),
)
OUTSIDE = """() => [...document.querySelectorAll('svg text')].filter(text => {
  const box = text.getBoundingClientRect();
  return box.width && (box.left < 0 || box.right > innerWidth + 1);
}).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install --group browser")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"there is none of {', '.join(BROWSERS)} on the PATH")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html.render(with_everything(*NAMES, gates=GATES)), "utf-8")
    return path.as_uri()


@pytest.mark.parametrize("width", [1280, 1061, 800, 400, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_window_in_light_and_dark(browser: Any, address: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    assert page.locator("svg.plot:visible").count() == 3 + 3  # forest, waterfall, pareto; a distribution a shape
    red, *_ = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red < 60) == (scheme == "dark")
    assert (asked, complaints) == ([address], [])
    page.close()


def test_a_click_or_a_key_sorts_a_table(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    table = page.locator("table.sortable:has(tr.baseline-row)")
    head = table.locator("th", has_text="size")  # of 12000 bytes to 3000: letters would sort them otherwise

    def column(number: int) -> list[str]:
        found: list[str] = table.locator(f"tbody td:nth-child({number})").evaluate_all(
            "cells => cells.map(cell => cell.dataset.sort)"
        )
        return found

    before = [float(value) for value in column(6)]
    assert before == sorted(before, reverse=True)
    head.locator("button").click()
    assert [float(value) for value in column(6)] == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert [float(value) for value in column(6)] == before
    assert head.get_attribute("aria-sort") == "descending"
    table.locator("th").first.locator("button").click()
    assert column(1) == sorted(column(1))
    assert head.get_attribute("aria-sort") is None
    page.close()


def test_print_shows_what_is_folded_on_paper_white(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 703, "height": 1032}, color_scheme="dark")  # A4 within its margins
    page.goto(address)
    folded = page.locator("details table").first
    shown = "one => one.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true})"
    assert not folded.evaluate(shown)
    page.emulate_media(media="print")
    assert folded.evaluate(shown)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 703
    page.close()
