"""Every view says the same of a report; they are written together, and one that fails takes no other with it."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.benchmark.page import Page
from tests.benchmark.reports import GATES, HOSTILE, make_report, with_everything
from tests.conftest import largest_file
from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.views import check_places, html, junit, markdown, save, terminal, words
from theseus_deploy.errors import ArtifactError, ConfigError


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


def test_a_name_that_is_no_utf8_loses_no_report(tmp_path: Path) -> None:
    report = make_report("donn\udce9es")
    paths = [tmp_path / f"report{suffix}" for suffix in (".json", ".md", ".html", ".xml")]
    save(report, paths)
    assert all(path.stat().st_size > 500 for path in paths)
    assert BenchmarkReport.open(paths[0]) == report


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


def test_save_writes_each_kind_and_the_json_is_the_truth(tmp_path: Path) -> None:
    report = make_report(HOSTILE, gates=GATES)
    paths = [tmp_path / f"report{suffix}" for suffix in (".json", ".md", ".html", ".xml")]
    save(report, paths)
    assert all(path.stat().st_size > 500 for path in paths)
    assert BenchmarkReport.open(paths[0]) == report


def test_reports_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in '.pdf'; end it in .json, .md, .html, .xml"):
        check_places([tmp_path / "report.json", tmp_path / "report.pdf"])
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        check_places([tmp_path / "folder.html"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"r.json cannot be written in .*file; choose another place"):
        check_places([tmp_path / "file" / "deep" / "r.json"])
    check_places([tmp_path / "new" / "deep" / "r.json"])
    with pytest.raises(ConfigError, match=r"r\.json is what --against compares with, and would be replaced"):
        check_places([tmp_path / "new" / ".." / "r.json"], str(tmp_path / "r.json"))
    assert not (tmp_path / "new").exists()
    report = make_report()
    with largest_file(len(report.dumps()) - 1), pytest.raises(ArtifactError, match=r"report\.json cannot be written"):
        save(report, [tmp_path / "report.json", tmp_path / "short.md"])
    assert (tmp_path / "short.md").exists()  # one that fails takes no other with it
    longest = tmp_path / f"{'n' * 250}.json"
    save(make_report(), [longest])
    assert BenchmarkReport.open(longest) == make_report()


def test_a_report_does_not_go_where_a_manifest_says_what_is_there(fp32_bundle: Path) -> None:
    for name in ("theseus.json", "report.md", "reports/new/report.md"):
        with pytest.raises(ConfigError, match=rf"{name} lies in a folder that theseus has made and checks; choose"):
            check_places([fp32_bundle / name])


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
