"""Write the tables of both READMEs from `benchmarks/results/*.json`, after taking a new demo report if one is given.

make demo && .venv/bin/python benchmarks/readme.py theseus-demo/report.json
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.views import words
from theseus_deploy.benchmark.views.markdown import summary
from theseus_deploy.benchmark.views.numbers import milliseconds

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README, RESULT = ROOT / "README.md", RESULTS / "demo.json"
SPEED = RESULTS / "compress_speed.json"
COLD = RESULTS / "cold_start.json"
INT8 = RESULTS / "int8_speed.json"
EXPORT = RESULTS / "export_cost.json"
PLAN = RESULTS / "plan_validation.json"
POWER = RESULTS / "gate_power.json"
ACCURACY, ACCURACY_FP32 = RESULTS / "accuracy.json", RESULTS / "accuracy_fp32.json"
LATENCY = RESULTS / "latency.json"
HARNESS = RESULTS / "second_harness.json"
SHOWN = ("theseus+distill", "theseus", "theseus, official", "truncate, as shipped", "truncate", "distill")
RIVALS = ("truncate", "distill")


def demo() -> str:
    """Return what the demo measured."""
    report = BenchmarkReport.open(RESULT)
    source = "From [`benchmarks/results/demo.json`](benchmarks/results/demo.json), made by `make demo`."
    conditions = f"{words.method_line(report)} {words.noise_line(report)} {source}"
    return f"{summary(report)}\n\n{words.gain_line(report)}\n\n{conditions}"


def compress_speed() -> str:
    """Return how long a step of `theseus compress` takes beside other trainings."""
    report = json.loads(SPEED.read_text("utf-8"))
    lines = ["| seconds a step | rate 0.3 | rate 0.3 to 1, then 1 | peak MB |", "| --- | ---: | ---: | ---: |"]
    for arm in report["arms"]:
        seconds, peak = arm["seconds_a_step"], arm["peak_rss_bytes"] / 1e6
        lines.append(f"| {arm['arm']} | {seconds['start']:.3f} | {seconds['curriculum']:.3f} | {peak:.0f} |")
    lines += ["", "| ratio [95 %] | rate 0.3 | rate 0.3 to 1, then 1 | goal |", "| --- | ---: | ---: | ---: |"]
    for ratio in report["time"]:
        cells = " | ".join(_estimate(ratio["phases"][phase]) for phase in ("start", "curriculum"))
        lines.append(f"| {ratio['ratio']} | {cells} | {ratio['limit']} |")
    for ratio in report["peak memory"]:
        cell = _estimate(ratio["phases"]["curriculum"])
        lines.append(f"| peak memory, {ratio['ratio']} | | {cell} | {ratio['limit']} |")
    settings, machine = report["settings"], report["machine"]
    return "\n".join(lines) + (
        f"\n\n{report['rounds']} rounds of a training on {settings['rows']} rows, batch {settings['batch']}, "
        f"{settings['threads']} threads, on {machine['cpu']} ({machine['cores']} cores), one process an arm, "
        "interleaved. From "
        "[`benchmarks/results/compress_speed.json`](benchmarks/results/compress_speed.json), made by "
        "`python benchmarks/compress_speed.py --data mrpc/`."
    )


def cold_start() -> str:
    """Return how soon a new process answers."""
    report = json.loads(COLD.read_text("utf-8"))
    lines = ["| first answer of a new process | seconds [least, most] | peak MB |", "| --- | ---: | ---: |"]
    for one in report["contenders"]:
        seconds, peak = one["seconds"], one["peak_rss_bytes"]["median"] / 1e6
        low, high = seconds["spread"]
        lines.append(f"| {one['name']} | {seconds['median']:.2f} [{low:.2f}, {high:.2f}] | {peak:.0f} |")
    machine = report["machine"]
    return "\n".join(lines) + (
        f"\n\n{report['model']}, {report['rounds']} rounds in random order, on {machine['cpu']} ({machine['cores']} "
        "cores); the pipeline reads the checkpoint that the bundle was made from. From "
        "[`benchmarks/results/cold_start.json`](benchmarks/results/cold_start.json), made by "
        "`python benchmarks/cold_start.py`."
    )


def plan_validation() -> str:
    """Return what `theseus plan` foretold of fleets that were then loaded."""
    report = json.loads(PLAN.read_text("utf-8"))
    lines = [
        "| batch | window ms | inputs/s | busy | p99 ms, median of passes [least, most] | planned [95 %] | "
        "without both flags | error of p50 in a pass | error of p99 in a pass |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in report["open"]:
        fleet, measured, planned = cell["fleet"], cell["measured"], cell["planned"]
        low, high = (milliseconds(bound) for bound in planned["p99_interval"])
        errors = (
            f"{np.median(cell['error'][name]):+.0%} [{min(cell['error'][name]):+.0%}, {max(cell['error'][name]):+.0%}]"
            for name in ("p50", "p99")
        )
        lines.append(
            f"| {fleet['most']} | {fleet['window'] * 1e3:g} | {cell['rate']:g} | {np.median(cell['busy']):.0%} | "
            f"{milliseconds(float(np.median(measured['p99'])))} [{milliseconds(min(measured['p99']))}, "
            f"{milliseconds(max(measured['p99']))}] | "
            f"{milliseconds(planned['p99'])} [{low}, {high}] | {milliseconds(cell['planned_bare']['p99'])} | "
            f"{' | '.join(errors)} |"
        )
    machine = report["machine"]
    return "\n".join(lines) + (
        f"\n\nOne server of {report['model']}, one thread, on {report['data']}; up to {report['passes']} passes of "
        f"{report['seconds_a_pass']:g} s a row, without those in which other processes took over "
        f"{report['most_others']:.0%} of a core, on {machine['cpu']} ({machine['cores']} cores). The plan is from the "
        f"times of all passes, with `--overhead-ms` {report['overhead_seconds'] * 1e3:.2f} and `--network-ms` "
        f"{report['network_seconds'] * 1e3:.2f}; the errors, median [least, most], are those of a simulation of the "
        "arrivals of a pass in the times that were taken at its start. Busy is the share of time in which the server "
        "worked, arrivals are Poisson, and latency counts from the intended arrival. From "
        "[`results/plan_validation.json`](results/plan_validation.json), made by "
        "`benchmarks/plan_validation.py`."
    )


def int8_speed() -> str:
    """Return how fast int8 graphs are, under onnxruntime's settings and in OpenVINO."""
    report = json.loads(INT8.read_text("utf-8"))
    shapes = [f"{shape['batch']} x {shape['sequence']}" for shape in report["candidates"][0]["shapes"]]
    lines = [f"| candidate | {' | '.join(shapes)} |", f"| --- |{' ---: |' * len(shapes)}"]
    for one in report["candidates"]:
        cells = [
            f"{1000 * shape['p50_seconds']:.2f} ms, {_estimate({**shape['ratio'], 'value': shape['ratio']['p50']})}"
            for shape in one["shapes"]
        ]
        lines.append(f"| {one['name']} | {' | '.join(cells)} |")
    machine = report["machine"]
    return "\n".join(lines) + (
        f"\n\n{report['model']}; medians and their ratios to the first line's, with 95 % intervals, at so many inputs "
        f"of so many tokens; {report['threads']} threads on {machine['cpu']} ({machine['cores']} cores), one process a "
        "candidate, interleaved. From "
        "[`results/int8_speed.json`](results/int8_speed.json), made by "
        "`python benchmarks/int8_speed.py FOLDER`."
    )


def export_cost() -> str:
    """Return what an export takes in time and memory."""
    report = json.loads(EXPORT.read_text("utf-8"))
    lines = ["| export | seconds | goal | peak memory, in models | goal |", "| --- | ---: | ---: | ---: | ---: |"]
    goals = report["goals"]
    lines += [
        f"| `--quantize {one['quantize']}` | {one['seconds']:.1f} | < {goals['seconds']:g} | "
        f"{one['memory_in_models']:.1f} | < {goals['memory_in_models']:g} |"
        for one in report["exports"]
    ]
    machine = report["machine"]
    return "\n".join(lines) + (
        f"\n\n{report['model']} ({report['model_bytes'] / 1e6:.0f} MB); memory beyond what the imports take; "
        f"{report['threads']} threads on {machine['cpu']} ({machine['cores']} cores). From "
        "[`results/export_cost.json`](results/export_cost.json), made by `python benchmarks/export_cost.py`."
    )


def gate_power() -> str:
    """Return how often gates err."""
    report = json.loads(POWER.read_text("utf-8"))
    kinds = {"A/A": "equal", "slower": "a fifth slower"}
    lines = [
        "| p50 gate at 1.10 | machine | comparisons | passed | failed | inconclusive | rate of failing [95 %] | goal |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in report["summary"]:
        counts = " | ".join(str(one["verdicts"].get(verdict, 0)) for verdict in ("pass", "fail", "inconclusive"))
        low, high = (f"{100 * bound:.1f}" for bound in one["interval"])
        goal = one["goal"].removeprefix("fail: ")
        lines.append(
            f"| {kinds[one['kind']]} | {one['machine']} | {one['comparisons']} | {counts} | "
            f"{100 * one['rate']:.1f} % [{low}, {high}] | {goal} |"
        )
    machine, config = report["machine"], report["config"]
    seconds = np.median([one["seconds"] for one in report["comparisons"]])
    layers = report["layers"]
    return "\n".join(lines) + (
        f"\n\nEach a benchmark of its own, all processes new, {config['threads']} thread, at most "
        f"{config['max_seconds']:.0f} s of timing (median of the whole: {seconds:.1f} s): a bundle of "
        f"{layers['baseline']} layers against itself, and one of {layers['slower']} against it, on {machine['cpu']} "
        f"({machine['cores']} cores), without and with a second process that works in bursts. Intervals are Wilson's. "
        "From [`benchmarks/results/gate_power.json`](benchmarks/results/gate_power.json), made by "
        "`python benchmarks/gate_power.py`."
    )


def second_harness() -> str:
    """Return what another harness makes of the same ratios."""
    report = json.loads(HARNESS.read_text("utf-8"))
    lines = [
        "| over the predecessor in torch | `theseus benchmark` [95 %] | plain scripts | difference |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in report["ratios"]:
        low, high = one["interval"]
        lines.append(
            f"| {one['name']} | {one['theseus']:.3f} [{low:.3f}, {high:.3f}] | {one['scripts']:.3f} | "
            f"{100 * one['difference']:+.1f} % |"
        )
    machine = report["machine"]
    return "\n".join(lines) + (
        f"\n\n{report['model']}, one input of {report['data']} at a time; {report['config']['threads']} threads on "
        f"{machine['cpu']} ({machine['cores']} cores). From [`results/second_harness.json`]"
        "(results/second_harness.json), made by `python benchmarks/second_harness.py`."
    )


def latency() -> str:
    """Return how fast originals and successors answer, in every runtime."""
    report = json.loads(LATENCY.read_text("utf-8"))
    parts = []
    for model, found in report.items():
        shapes = list(found["candidates"][0]["p50_seconds"])
        headers = " | ".join(shape.replace("x", " x ") for shape in shapes)
        lines = [
            f"| {model}, ms (ratio) | precision | runtime | MB | {headers} |",
            f"| --- | --- | --- | ---: |{' ---: |' * len(shapes)}",
        ]
        for one in found["candidates"]:
            cells = [
                f"{milliseconds(one['p50_seconds'][shape])} ({one['ratio'][shape]['value']:.3f})" for shape in shapes
            ]
            head = f"{one['name']} | {one['precision']} | {one['runtime']} | {one['bytes'] / 1e6:.0f}"
            lines.append(f"| {head} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + (
        "\n\nMilliseconds a batch at the median, and in brackets the ratio to the first line of the same report "
        "(OpenVINO's is a report of its own); batch x tokens, `data` are the tweets' own lengths with tokenisation; "
        f"{_where(report)}. From [`results/latency.json`](results/latency.json), made by "
        "`python benchmarks/latency.py --peer .venv-interop/bin/python`."
    )


def speedups() -> str:
    """Return how many times as fast an int8 successor is as what one would run instead."""
    report = json.loads(LATENCY.read_text("utf-8"))
    lines = [f"| the int8 successor, times as fast as | {' | '.join(report)} | goal |",
             f"| --- |{' ---: |' * len(report)} ---: |"]  # fmt: skip
    rows = [*zip(*(found["speedups"] for found in report.values()), strict=True)]
    lines += [
        f"| {row[0]['of']}, 1 x 128 | {' | '.join(_estimate(one) for one in row)} | {row[0]['goal']:g} |"
        for row in rows
    ]
    quotients = " | ".join(f"{_over_bf16(found['candidates']):.2f}" for found in report.values())
    lines.insert(3, f"| predecessor in bf16 (torch), 1 x 128 | {quotients} | |")
    asked = [found["pipeline"] for found in report.values()]
    lines.append(
        f"| the transformers pipeline padded to {asked[0]['max_length']}, {asked[0]['batch']} tweets at once | "
        f"{' | '.join(_estimate(one) for one in asked)} | {asked[0]['goal']:g} |"
    )
    sizes = [found["size"] for found in report.values()]
    cells = " | ".join(f"{size['value']:.2f}" for size in sizes)
    lines.append(f"| its file, times as small as the original's | {cells} | {sizes[0]['goal']:g} |")
    return "\n".join(lines) + (
        f"\n\nAt batch 1 and 128 tokens, against the 12 layers (BERT-base) or 6 (MiniLM) that it was made from, 95 % "
        f"intervals (bf16's line has medians alone); {_where(report)}. The goals are BERT-base's. From "
        "[`benchmarks/results/latency.json`](benchmarks/results/latency.json), made by `python benchmarks/latency.py`."
    )


def _over_bf16(candidates: list[dict[str, Any]]) -> float:
    def median(name: str, precision: str, runtime: str) -> float:
        return next(
            float(one["p50_seconds"]["1x128"])
            for one in candidates
            if (one["name"], one["precision"], one["runtime"]) == (name, precision, runtime)
        )

    return median("predecessor", "bf16", "torch") / median("successor-int8", "int8-dynamic", "onnxruntime")


def _where(report: dict[str, Any]) -> str:
    machine = next(iter(report.values()))["environments"][0]
    return (
        f"{machine['threads']} threads on {machine['cpu']} ({machine['cores']} cores); weights are random but for "
        "MiniLM's encoder, which latency does not depend on"
    )


def accuracy(path: Path = ACCURACY) -> str:
    """Return what each way of compressing kept of the predecessor, task by task."""
    report = json.loads(path.read_text("utf-8"))
    parts = []
    for task in report["tasks"]:
        lines = [
            f"| {task['task']}, {task['metric']} | lr (of) | runs | validation | test | of the predecessor's | "
            "label loyalty | probability loyalty | `theseus+distill` is ahead by [95 %] |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        scores = " | ".join(_per_cent(task["predecessor"][split]) for split in ("validation", "test"))
        lines.append(f"| *predecessor* | | | {scores} | | | | |")
        for arm in task["arms"]:
            rates = ", ".join(f"{rate:g}" for rate in arm["of"])
            numbers = " | ".join(_per_cent(arm[name]) for name in ("validation", "test", "retained"))
            loyal = " | ".join(f"{100 * arm[f'{kind}_loyalty']:.1f}" for kind in ("label", "probability"))
            lines.append(
                f"| {arm['arm']} | {arm['lr']:g} ({rates}) | {len(arm['seeds'])} | {numbers} | {loyal} | "
                f"{_lead(arm['ahead'])} |"
            )
        parts.append("\n".join(lines))
    machine = report["machine"]
    return "\n\n".join(parts) + (
        f"\n\nIn per cent; MiniLM, 6 layers to 3 unless an arm says otherwise; {report['runs']} runs on "
        f"{machine['cpu']} ({', '.join(machine['isa'])}), the same number of steps for all arms of a task. The "
        "learning rate of each arm is the best, on the validation rows, of those in brackets that ran on the most "
        "seeds; these rows have no part in the test. The lead is the difference of mean test scores on the seeds that "
        "both have, with a paired bootstrap over rows and seeds: of one seed it knows only what other rows would "
        f"do, and of another predecessor nothing. From [`results/{path.name}`](results/{path.name}), made by `python "
        f"benchmarks/accuracy_table.py benchmarks/results/{path.name}l` from what `python benchmarks/accuracy.py` made."
    )


def kept() -> str:
    """Return what the default kept of the predecessor on each task, beside its rivals, and what replacing is worth."""
    report, later = (json.loads(path.read_text("utf-8")) for path in (ACCURACY, ACCURACY_FP32))
    lines = [
        f"| % of the predecessor's score (runs) | predecessor | a constant | {' | '.join(SHOWN)} | "
        + " | ".join(f"ahead of {rival} [95 %]" for rival in RIVALS)
        + " |",
        f"| --- | ---: | ---: |{' ---: |' * len((*SHOWN, *RIVALS))}",
    ]
    for group, found in (
        ("tuned", report), ("mrpc by f1 of equivalent", report), ("later", report), ("newsgroups", report),
        ("held-out", later), ("products-long", later), ("last", later),
    ):  # fmt: skip
        tasks = [task for task in found["tasks"] if task["group"] == group]
        lines += [_kept_row(*_about(task), {arm["arm"]: arm for arm in task["arms"]}) for task in tasks]
        if len(tasks) > 1:
            whole = {arm["arm"]: arm for arm in found["means"][group] if arm["tasks"] == len(tasks)}
            lines.append(_kept_row(f"**mean of {len(tasks)} {group} tasks**", "", "", whole))
    return "\n".join(lines) + (
        "\n\nMiniLM, 6 layers to 3, all arms of a task in as many steps; (runs, each of another seed). The lead is in "
        "points of the task's metric, on the seeds that both have, by a paired bootstrap over rows and seeds. From the "
        "held-out tasks on, runs are of a machine without bf16. From "
        "[`benchmarks/results/accuracy.json`](benchmarks/results/accuracy.json) and "
        "[`accuracy_fp32.json`](benchmarks/results/accuracy_fp32.json), made by "
        "[these commands](benchmarks/README.md#what-compressing-keeps); all arms, rates and loyalties stand there."
    )


def _about(task: dict[str, Any]) -> tuple[str, str, str]:
    score, constant = task["predecessor"]["test"], task["constant"]
    name = f"{task['task']}, {task['rows']:,} rows, {task['steps']:,} steps"
    return name, f"{task['metric']} {100 * score:.1f}", f"{100 * constant / score:.1f}"


def _kept_row(name: str, score: str, constant: str, arms: dict[str, dict[str, Any]]) -> str:
    cells = [_share_kept(arms[one]) if one in arms else "" for one in SHOWN]
    leads = [_lead(arms[one]["ahead"]) if one in arms else "" for one in RIVALS]
    return f"| {' | '.join((name, score, constant, *cells, *leads))} |"


def _share_kept(arm: dict[str, Any]) -> str:
    runs = f" ({len(arm['seeds'])})" if "seeds" in arm else ""
    return f"{100 * arm['retained']:.1f}{runs}"


def replacing() -> str:
    """Return how far arms are ahead of the same without replacing."""
    lines = [
        "| points on test (runs) | with replacing | without | ahead by [95 %] |",
        "| --- | ---: | ---: | ---: |",
    ]
    for path in (ACCURACY_FP32, ACCURACY):
        for task in json.loads(path.read_text("utf-8"))["tasks"]:
            arms = {arm["arm"]: arm for arm in task["arms"]}
            for pair in task["replacing"]:
                one, other = (
                    f"{name} {100 * arms[name]['test']:.1f} ({len(arms[name]['seeds'])})"
                    for name in (pair["arm"], pair["without"])
                )
                lines.append(f"| {task['task']}, {task['metric']} | {one} | {other} | {_lead(pair['ahead'])} |")
    return "\n".join(lines) + (
        "\n\nSame start, decay, dropout, rate and steps. `theseus` and `truncate, as shipped` train the same weights, "
        "those of the layers; `distill, as shipped` also trains embeddings and head from the first step, "
        "`theseus+distill` from rate 1 on. From [`benchmarks/results/accuracy_fp32.json`]"
        "(benchmarks/results/accuracy_fp32.json), for the first pair, and "
        "[`accuracy.json`](benchmarks/results/accuracy.json)."
    )


def means() -> str:
    """Return what each way of compressing kept in the mean over tasks: those settings were tuned on, and others."""
    report, later = (json.loads(path.read_text("utf-8")) for path in (ACCURACY, ACCURACY_FP32))
    tables = (
        _mean(report, "tuned"),
        _mean(report, "later", beside="newsgroups"),
        _mean(later, "held-out"),
        _mean(later, "last"),
    )
    return "\n\n".join(tables) + (
        "\n\nArms that were run on all tasks of a group (runs). *At one rate* takes an arm at the default's rate where "
        "its validation rows prefer another. The last two tables are of a machine without bf16. "
        "From [`results/accuracy.json`](results/accuracy.json) and "
        "[`results/accuracy_fp32.json`](results/accuracy_fp32.json)."
    )


def _mean(report: dict[str, Any], group: str, beside: str = "") -> str:
    """Return a table of the arms that were run on all tasks of a group, and a task `beside` it, not in the mean."""
    members = [task for task in report["tasks"] if task["group"] == group]
    shown = [*members, *(task for task in report["tasks"] if task["task"] == beside)]
    names = [task["task"] if task in members else f"{task['task']}, not in the mean" for task in shown]
    lines = [
        f"| score on test, % of the predecessor's | mean of {len(members)} {group} tasks | ahead by [95 %] | "
        f"at one rate | {' | '.join(names)} |",
        f"| --- | ---: | ---: | ---: |{' ---: |' * len(shown)}",
    ]
    alike = {arm["arm"]: arm for arm in report["means_at_one_rate"][group]}
    for arm in report["means"][group]:
        if arm["tasks"] == len(members):
            found = [next(one for one in task["arms"] if one["arm"] == arm["arm"]) for task in shown]
            cells = " | ".join(f"{100 * one['retained']:.1f} ({len(one['seeds'])})" for one in found)
            other = alike[arm["arm"]]
            at_one_rate = "" if other == arm else f"{100 * other['retained']:.1f}, {_lead(other['ahead'])}"
            mean = f"{100 * arm['retained']:.1f} | {_lead(arm['ahead'])} | {at_one_rate}"
            lines.append(f"| {arm['arm']} | {mean} | {cells} |")
    return "\n".join(lines)


def _per_cent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _lead(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return ""
    low, high = (100 * bound for bound in estimate["interval"])
    return f"{100 * estimate['value']:+.1f} [{low:+.1f}, {high:+.1f}]"


def _estimate(estimate: dict[str, Any]) -> str:
    low, high = estimate["interval"]
    return f"{estimate['value']:.2f} [{low:.2f}, {high:.2f}]"


DOCUMENTS: dict[Path, dict[str, Callable[[], str]]] = {
    README: {
        "demo": demo,
        "kept": kept,
        "replacing": replacing,
        "speedups": speedups,
        "compress-speed": compress_speed,
        "cold-start": cold_start,
        "gate-power": gate_power,
    },
    README.parent / "benchmarks" / "README.md": {
        "means": means,
        "accuracy": accuracy,
        "accuracy-fp32": partial(accuracy, ACCURACY_FP32),
        "latency": latency,
        "second-harness": second_harness,
        "int8-speed": int8_speed,
        "export-cost": export_cost,
        "plan": plan_validation,
    },
}


def with_tables(document: Path) -> str:
    """Return a document's text with every block between its marks made anew."""
    text = document.read_text("utf-8")
    for name, make in DOCUMENTS[document].items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{make()}\n\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    if len(sys.argv) > 1:
        BenchmarkReport.open(Path(sys.argv[1])).save(RESULT)
    for document in DOCUMENTS:
        document.write_text(with_tables(document), "utf-8")
