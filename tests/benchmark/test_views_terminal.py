"""The terminal shows what fits its width, every number whole."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.benchmark.reports import GATES, HOSTILE, make_report
from theseus_deploy.benchmark.report import Gate
from theseus_deploy.benchmark.views import terminal


@pytest.mark.parametrize("gates", [(), GATES])
def test_terminal_fits_80_columns(gates: tuple[Gate, ...]) -> None:
    report = make_report("successor-with-a-long-name-int8 (onnxruntime)", HOSTILE, gates=gates)
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=False).print(terminal.render(report))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("FAIL" if gates else "No gates")
    assert "…" not in out.getvalue()
    for value in ("accuracy", "0.880", "[bold]"):
        assert value in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_terminal_shows_a_number_whole_or_not_at_all(width: int) -> None:
    report = make_report("successor-int8 (onnxruntime)")
    large = [
        replace(one, bytes=1_340_000_000, peak_rss_bytes=3_204_000_000, load_seconds=123.4)
        for one in (report.baseline, *report.candidates)
    ]
    out = io.StringIO()
    shown = terminal.render(replace(report, baseline=large[0], candidates=tuple(large[1:])))
    Console(file=out, width=width, force_terminal=False).print(shown)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for value in ("loyalty", "0.950", ".910–.990", "0.890"):
        assert value in text
    spared = {60: "load, memory, rate", 80: "", 100: ""}[width]
    assert (f"no room for {spared} here" in text) == bool(spared)
    for name, value in (("rate", "201"), ("size", "1,340"), ("load", "120"), ("memory", "3,204")):
        assert (value in text) == (name not in spared)
