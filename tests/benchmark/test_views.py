import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from tests.benchmark.reports import SHAPES, make_report, with_everything
from theseus_deploy.benchmark.gains import gain
from theseus_deploy.benchmark.report import BenchmarkReport, Gate
from theseus_deploy.benchmark.views import check_suffixes, html, junit, markdown, plots, save, terminal, words
from theseus_deploy.errors import ArtifactError, ConfigError

HOSTILE = '<script>alert("x")</script>|*a*&\x00\x1b[31m [bold]'
GATES = (
    Gate("p50-ratio", "small (onnxruntime)", 0.6, 0.5, (0.49, 0.51), "pass"),
    Gate("metric-drop", "small (onnxruntime)", 0.01, 0.03, (0.02, 0.04), "fail"),
    Gate("label-loyalty", "small (onnxruntime)", 0.95, 0.95, (0.94, 0.96), "inconclusive", "few rows; add some"),
)
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a page could fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.scripts = 0
        self.rows = 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open += [] if tag in VOID else [tag]
        self.scripts += tag == "script"
        self.rows += tag == "tr"
        self.fetched += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


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


def printed(report: BenchmarkReport) -> str:
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=False).print(terminal.render(report))
    return out.getvalue()


SAID = {
    "single-label": ("it agrees with the baseline on 95.0% of the labels", "accuracy 0.890"),
    "multi-label": ("it gives 95.0% of the inputs all the baseline's labels and no other", "micro_f1 0.890"),
    "tokens": ("it tags 95.0% of the words as the baseline does", "entity f1 0.890"),
    "regression": ("pearson 0.890 against 0.900.", "pearson 0.890"),
}


@pytest.mark.parametrize("kind", SAID)
def test_every_view_speaks_of_what_the_kind_of_task_is_about(kind: str) -> None:
    report = make_report(kind=kind)
    views = {"html": html.render(report), "markdown": markdown.render(report), "terminal": printed(report)}
    flat = {name: " ".join(text.replace("\\_", "_").replace("&#39;", "'").split()) for name, text in views.items()}
    Page(views["html"])
    for name, text in flat.items():
        assert all(said in text for said in SAID[kind]), name
        assert ("loyalty" in text) == (kind != "regression"), name
        assert ("lists of words" in text) == (kind == "tokens"), name
        assert (".850–.930" if name == "terminal" else "[0.850, 0.930]") in text, name
        assert ((".910–.990" if name == "terminal" else "[0.910, 0.990]") in text) == (kind != "regression"), name
    assert max(map(len, views["terminal"].splitlines())) <= 80
    assert ("1,234 words" in flat["html"]) == (kind == "tokens")


def test_html_shows_where_the_labels_differ_and_escapes_the_texts() -> None:
    for kind in ("single-label", "multi-label", "tokens"):
        text = html.render(make_report(kind=kind, text=HOSTILE))
        assert Page(text).scripts == 1
        assert "<script>alert" not in text
        assert "\x1b" not in text
        assert "6 of 96" in text
        assert "right on 4 of them; the candidate on 2" in text
    assert "Where the labels differ" not in html.render(make_report(kind="regression"))


def test_a_report_of_before_there_were_intervals_is_read_and_shown(tmp_path: Path) -> None:
    report = make_report()
    data = json.loads(report.dumps())
    for one in (data["baseline"], *data["candidates"]):
        del one["intervals"], one["disagreement"]
    del data["data"]["kind"], data["data"]["items"]
    (tmp_path / "old.json").write_text(json.dumps(data))
    old = BenchmarkReport.open(tmp_path / "old.json")
    assert "[0.850" not in markdown.render(old)
    assert "on 95.0% of the labels" in " ".join(printed(old).split())
    assert "Where the labels differ" not in html.render(old)


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


def test_a_reference_is_shown_and_never_wins() -> None:
    report = make_report("a (torch)", "b (torch)")
    slow, fast = report.candidates
    assert words.winner(report) == fast
    referred = replace(report, candidates=(slow, replace(fast, role="reference")))
    assert words.winner(referred) == slow
    assert "b (torch)" in markdown.render(referred)


def test_a_winner_passed_its_gates_and_is_certainly_faster() -> None:
    report = make_report("a (torch)", "b (torch)")
    best = words.winner(report)
    assert best is not None
    assert best.name == "b (torch)"
    held = replace(report, gates=(replace(GATES[1], candidate="b (torch)"),))
    assert words.winner_line(held).startswith("a (torch) is 2.")
    everyone = tuple(replace(GATES[1], candidate=name) for name in ("a (torch)", "b (torch)"))
    assert words.winner_line(replace(report, gates=everyone)) == (
        "No candidate passed every gate; the fastest, b (torch), was stopped by metric-drop."
    )
    swapped = replace(report, baseline=report.candidates[1], candidates=(report.candidates[1],))
    slow = replace(swapped.candidates[0].latency[0], ratio=report.baseline.latency[0].ratio)
    slower = replace(swapped, candidates=(replace(swapped.candidates[0], latency=(slow,)),))
    assert words.winner_line(slower) == "No candidate is certainly faster than the baseline."


def test_noise_that_tells_equals_apart_is_said() -> None:
    report = make_report()
    noise = {**report.environment["noise"], "aa_p50_ratio": 1.2, "interval": [1.1, 1.3]}
    assert "quieten" not in words.noise_line(report)
    assert "quieten" in words.noise_line(replace(report, environment={**report.environment, "noise": noise}))


@pytest.mark.parametrize(
    ("value", "text"),
    [(134.2, "134"), (41.02, "41.0"), (4.559, "4.56"), (0.8731, "0.873"), (9.999, "10.0"), (12345, "12,300"), (0, "0")],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert words.digits(value) == text


def test_ratios_in_words() -> None:
    assert words.times(0.213) == "0.21"
    assert words.times(0.0523) == "0.052"
    assert words.faster(0.21) == "4.8x faster"
    assert words.faster(1.5) == "1.5x slower"
    assert words.faster(0.21, (0.20, 0.22)) == "4.8x faster"
    assert words.faster(0.21, (0.10, 0.50)) == "2.0x to 10x faster"


def test_decimal_points_stand_in_one_column() -> None:
    assert words.aligned(["134", "41.0", "4.56", "–"]) == ["134   ", "41.0 ", "4.56", "–"]


def test_plots_survive_samples_without_spread() -> None:
    times, label = np.full(30, 5.0), plots.Label("a", "(torch)", "other")
    drawn = plots.distributions([plots.Distribution(label, times, 5.0, 5.0)], 360)
    assert "nan" not in drawn
    assert "nan" not in plots.pareto([plots.Point(label, 5.0, 0.0)], "accuracy", 360)
    assert "nan" not in plots.forest([("a shape", [plots.Fork(label, 1.0, (1.0, 1.0), "1x")])], (1.0, 1.0), [], 360)
    assert "nan" not in plots.waterfall([plots.Fall(label, 5.0, 5.0, "1x")], 360)


def test_a_limit_of_zero_has_no_place_on_a_logarithmic_axis() -> None:
    forks = [plots.Fork(plots.Label("a", "(torch)", "other"), 0.5, (0.4, 0.6), "2x")]
    assert plots.forest([("a shape", forks)], (1.0, 1.0), [0.0, 0.6], 360).count('class="limit"') == 1


def test_a_name_that_is_no_utf8_loses_no_report(tmp_path: Path) -> None:
    report = make_report("donn\udce9es")
    paths = [tmp_path / f"report{suffix}" for suffix in (".json", ".md", ".html", ".xml")]
    save(report, paths)
    assert all(path.stat().st_size > 500 for path in paths)
    assert BenchmarkReport.open(paths[0]) == report


def test_few_samples_have_no_density_and_what_is_beyond_the_axis_is_counted() -> None:
    label, draw = plots.Label("a", "(torch)", "other"), np.random.default_rng(1)

    def drawn(times: np.ndarray) -> str:
        return plots.distributions([plots.Distribution(label, times, 5.0, 5.1)], 1040)

    many = draw.uniform(4.9, 5.1, 1000)
    assert "polygon" in drawn(many)
    assert "more, to" not in drawn(many)
    assert "2 more, to 90.0 ms" in drawn(np.append(many, [70.0, 90.0]))
    assert "polygon" not in drawn(many[:19])
    assert drawn(np.linspace(4, 6, 19)).split('class="strip"')[1].split("/>")[0].count("M") == 19


def test_the_forest_has_the_noise_behind_its_first_shape_and_the_limits() -> None:
    fork = plots.Fork(plots.Label("a", "(torch)", "winner"), 0.5, (0.45, 0.55), "0.50x [0.45, 0.55]")
    drawn = plots.forest([("one", [fork]), ("two", [fork])], (0.97, 1.04), [0.6], 1040)
    assert drawn.count('class="band"') == drawn.count('class="limit"') == 1
    assert drawn.count('class="one"') == 2
    assert drawn.count(">0.50x [0.45, 0.55]</text>") == 2


def test_too_few_samples_have_no_tail() -> None:
    latency = make_report().baseline.latency[0]
    assert len(latency.samples) == 48
    assert [words.percentile(latency, name) for name in ("p50", "p95", "p99")] == [latency.p50, latency.p95, None]


def test_every_view_says_where_the_gain_came_from_and_what_was_not_measured() -> None:
    report = make_report()
    together = replace(report.candidates[0], layers=2, parameters=500, precision="int8-dynamic")
    views = {"html": html.render, "markdown": markdown.render, "terminal": printed, "junit": junit.render}
    for name, render in views.items():
        alone, mixed = (
            " ".join(render(one).replace("\\", "").split()) for one in (report, replace(report, candidates=(together,)))
        )
        assert re.search(r"small \(onnxruntime\) is ([\d.]+)x as fast: runtime \1x \[1\.\d\d, 2\.\d\d\]\.", alone), name
        assert "x as fast: runtime, compression and quantisation together 1.99x [" in mixed, name
        assert (
            "To tell runtime, compression and quantisation apart, measure base’s model in onnxruntime fp32 and small’s "
            "model in onnxruntime fp32 as well."
        ) in mixed, name
    assert "torch → onnxruntime, 4 layers → 2 layers, fp32 → int8-dynamic" in html.render(
        replace(report, candidates=(together,))
    )


def test_the_ledger_of_size_says_how_much_less_each_is() -> None:
    text = html.render(make_report())
    ledger = text[text.index("Ledger of size") : text.index("Every shape")]
    assert "−0.0" in ledger
    assert "0.50x" in ledger
    assert "100% of the greatest" in ledger
    assert "50% of the greatest" in ledger


def test_the_front_leaves_out_what_is_beaten() -> None:
    report = make_report("a (torch)", "b (torch)")
    points = [
        plots.Point(plots.Label(*words.name_parts(one), "other"), one.latency[0].p50, one.scores["accuracy"])
        for one in report.candidates
    ]
    beaten = plots.Point(plots.Label("slow and wrong", "", "other"), 1.0, 0.1)
    assert {point.label.name for point in plots._front([*points, beaten])} == {"a", "b"}


def test_save_writes_each_kind_and_the_json_is_the_truth(tmp_path: Path) -> None:
    report = make_report(HOSTILE, gates=GATES)
    paths = [tmp_path / f"report{suffix}" for suffix in (".json", ".md", ".html", ".xml")]
    save(report, paths)
    assert all(path.stat().st_size > 500 for path in paths)
    assert BenchmarkReport.open(paths[0]) == report


def test_reports_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in '.pdf'; end it in .json, .md, .html, .xml"):
        check_suffixes([tmp_path / "report.json", tmp_path / "report.pdf"])
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        check_suffixes([tmp_path / "folder.html"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"r.json cannot be written in .*file; choose another place"):
        check_suffixes([tmp_path / "file" / "deep" / "r.json"])
    check_suffixes([tmp_path / "new" / "deep" / "r.json"])
    assert not (tmp_path / "new").exists()
    with pytest.raises(ArtifactError, match="cannot be written"):
        save(make_report(), [tmp_path / f"{'long' * 62}.md", tmp_path / "short.md"])
    assert (tmp_path / "short.md").exists()  # one that fails takes no other with it


def test_every_view_says_why_a_gate_is_undecided() -> None:
    others = (replace(GATES[2], candidate="b (torch)"), replace(GATES[0], verdict="inconclusive", reason="noise; wait"))
    report = make_report("small (onnxruntime)", "b (torch)", gates=(*GATES, *others))
    for render in (html.render, markdown.render, printed):
        text = " ".join(render(report).replace("\\", "").split())
        assert text.count("label-loyalty undecided: few rows; add some.") == 1
        assert text.count("p50-ratio undecided: noise; wait.") == 1
    errors = [error.get("message", "") for error in ElementTree.fromstring(junit.render(report)).iter("error")]
    assert [error.rpartition(": ")[2] for error in errors] == [
        f"inconclusive, for {reason}" for reason in ("few rows; add some", "few rows; add some", "noise; wait")
    ]


def test_every_view_shows_cost_reference_and_what_changed() -> None:
    report = with_everything()
    for name, render in {"html": html.render, "markdown": markdown.render, "terminal": printed}.items():
        text = " ".join(render(report).replace("\\", "").replace("’", "'").split())
        assert "a million inputs, at 0.2 an hour for the machine" in text, name
        assert ("machine: base (torch) 0.654, a (torch) 0.654" in text) == (name == "terminal"), name
        assert text.count("0.654") >= 3, name
        assert "judged by no gate: b (onnxruntime)." in text, name
        assert (
            "a (torch): 1.04x [0.97, 1.12] its time in old.json, each over its baseline's; accuracy 0.890, was 0.910; "
            "0.00600 MB, was 0.00800"
        ) in text, name
        assert "b (onnxruntime) is" not in text, name  # a reference is taken apart for nobody
        assert ("first" in text and "2.8" in text) == (name != "terminal"), name
    assert max(map(len, printed(report).splitlines())) <= 80
    assert words.cost_line(make_report()) == words.reference_line(make_report()) == ""


def test_a_sweep_of_threads_is_a_table() -> None:
    text, none = html.render(with_everything()), html.render(make_report())
    sweep = text[text.index("Other numbers of threads") : text.index("<h2>Conditions")]
    assert Page(text).rows > Page(none).rows
    assert sweep.count('data-label="threads" data-sort="4"') == 3
    assert sweep.count(">71.5<") == 6
    assert "Other numbers of threads" not in none
    assert "| a (torch) | 4 | " in markdown.render(with_everything())
    assert "Other numbers of threads" not in markdown.render(make_report())


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"layers": 2, "parameters": 500}, "4 layers → 2 layers"),
        ({"parameters": 2_000_000}, "0.0 M parameters → 2.0 M parameters"),
        ({"runtime": "onnxruntime", "device": "cuda"}, "torch → onnxruntime on cuda"),
        ({"precision": "bf16"}, "fp32 → bf16"),
    ],
)
def test_a_step_says_from_what_to_what_it_went(end: dict[str, object], said: str) -> None:
    report = make_report()
    one = replace(report.candidates[0], **{"runtime": "torch", **end})  # type: ignore[arg-type]
    (step,) = gain(replace(report, candidates=(one,)), one).steps
    assert words.change_detail(step) == said
