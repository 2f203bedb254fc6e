"""The tables of both READMEs that say how fast things are and how sure that is; `readme.py` puts them in place."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from theseus_deploy.benchmark.views.numbers import milliseconds
from theseus_deploy.machine import Machine

RESULTS = Path(__file__).resolve().parent / "results"


def compress_speed() -> str:
    """Return how long a step of `theseus compress` takes beside other trainings."""
    report = _read("compress_speed")
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
    settings, official = report["settings"], report["arms"][0]
    machine = Machine.from_json(report["machine"])
    return "\n".join(lines) + (
        f"\n\n{report['rounds']} rounds of a training on {settings['rows']} rows, batch {settings['batch']}, "
        f"{settings['threads']} threads, on {machine.said}, one process an arm, "
        f"interleaved; `{official['arm']}` was timed at {len(official['steps'])} of its steps. From "
        "[`benchmarks/results/compress_speed.json`](benchmarks/results/compress_speed.json), made by "
        "`python benchmarks/compress_speed.py --data mrpc/`."
    )


def cold_start() -> str:
    """Return how soon a new process answers."""
    report = _read("cold_start")
    lines = ["| first answer of a new process | seconds [least, most] | peak MB |", "| --- | ---: | ---: |"]
    for one in report["contenders"]:
        seconds, peak = one["seconds"], one["peak_rss_bytes"]["median"] / 1e6
        low, high = seconds["spread"]
        lines.append(f"| {one['name']} | {seconds['median']:.2f} [{low:.2f}, {high:.2f}] | {peak:.0f} |")
    machine = Machine.from_json(report["machine"])
    return "\n".join(lines) + (
        f"\n\n{report['model']}, {report['rounds']} rounds in random order, on {machine.said}"
        "; the pipeline reads the checkpoint that the bundle was made from. From "
        "[`benchmarks/results/cold_start.json`](benchmarks/results/cold_start.json), made by "
        "`python benchmarks/cold_start.py`."
    )


def plan_validation() -> str:
    """Return what `theseus plan` foretold of fleets that were then loaded."""
    report = _read("plan_validation")
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
    machine = Machine.from_json(report["machine"])
    return "\n".join(lines) + (
        f"\n\nOne server of {report['model']}, one thread, on {report['data']}; up to {report['passes']} passes of "
        f"{report['seconds_a_pass']:g} s a row, without those in which other processes took over "
        f"{report['most_others']:.0%} of a core, on {machine.said}. The plan is from the "
        f"times of all passes, with `--overhead-ms` {report['overhead_seconds'] * 1e3:.2f} and `--network-ms` "
        f"{report['network_seconds'] * 1e3:.2f}; the errors, median [least, most], are those of a simulation of the "
        "arrivals of a pass in the times that were taken at its start. Busy is the share of time in which the server "
        "worked, arrivals are Poisson, and latency counts from the intended arrival. From "
        "[`results/plan_validation.json`](results/plan_validation.json), made by "
        "`benchmarks/plan_validation.py`."
    )


def int8_speed() -> str:
    """Return how fast int8 graphs are, under onnxruntime's settings and in OpenVINO."""
    report = _read("int8_speed")
    shapes = [f"{shape['batch']} x {shape['sequence']}" for shape in report["candidates"][0]["shapes"]]
    lines = [f"| candidate | {' | '.join(shapes)} |", f"| --- |{' ---: |' * len(shapes)}"]
    for one in report["candidates"]:
        cells = [
            f"{1000 * shape['p50_seconds']:.2f} ms, {_estimate({**shape['ratio'], 'value': shape['ratio']['p50']})}"
            for shape in one["shapes"]
        ]
        lines.append(f"| {one['name']} | {' | '.join(cells)} |")
    machine = Machine.from_json(report["machine"])
    return "\n".join(lines) + (
        f"\n\n{report['model']}; medians and their ratios to the first line's, with 95 % intervals, at so many inputs "
        f"of so many tokens; {report['threads']} threads on {machine.said}, one process a "
        "candidate, interleaved. From "
        "[`results/int8_speed.json`](results/int8_speed.json), made by "
        "`python benchmarks/int8_speed.py FOLDER`."
    )


def export_cost() -> str:
    """Return what an export takes in time and memory."""
    report = _read("export_cost")
    lines = ["| export | seconds | goal | peak memory, in models | goal |", "| --- | ---: | ---: | ---: | ---: |"]
    goals = report["goals"]
    lines += [
        f"| `--quantize {one['quantize']}` | {one['seconds']:.1f} | < {goals['seconds']:g} | "
        f"{one['memory_in_models']:.1f} | < {goals['memory_in_models']:g} |"
        for one in report["exports"]
    ]
    machine = Machine.from_json(report["machine"])
    return "\n".join(lines) + (
        f"\n\n{report['model']} ({report['model_bytes'] / 1e6:.0f} MB); memory beyond what the imports take; "
        f"{report['threads']} threads on {machine.said}. From "
        "[`results/export_cost.json`](results/export_cost.json), made by `python benchmarks/export_cost.py`."
    )


def gate_power() -> str:
    """Return how often gates err."""
    report = _read("gate_power")
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
    machine, config = Machine.from_json(report["machine"]), report["config"]
    seconds = np.median([one["seconds"] for one in report["comparisons"]])
    layers = report["layers"]
    return "\n".join(lines) + (
        f"\n\nEach a benchmark of its own, all processes new, {config['threads']} thread, at most "
        f"{config['max_seconds']:.0f} s of timing (median of the whole: {seconds:.1f} s): a bundle of "
        f"{layers['baseline']} layers against itself, and one of {layers['slower']} against it, on {machine.said}"
        ", without and with a second process that works in bursts. Intervals are Wilson's. "
        "From [`benchmarks/results/gate_power.json`](benchmarks/results/gate_power.json), made by "
        "`python benchmarks/gate_power.py`."
    )


def second_harness() -> str:
    """Return what another harness makes of the same ratios."""
    report = _read("second_harness")
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
    machine = Machine.from_json(report["machine"])
    return "\n".join(lines) + (
        f"\n\n{report['model']}, one input of {report['data']} at a time; {report['config']['threads']} threads on "
        f"{machine.said}. From [`results/second_harness.json`]"
        "(results/second_harness.json), made by `python benchmarks/second_harness.py`."
    )


def latency() -> str:
    """Return how fast originals and successors answer, in every runtime."""
    report = _read("latency")
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
    report = _read("latency")
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
    environment = next(iter(report.values()))["environments"][0]
    samples = ", ".join(f"{found['candidates'][0]['samples']['1x128']} ({name})" for name, found in report.items())
    return (
        f"{environment['threads']} threads on {Machine.from_json(environment).said}; samples a candidate at 1 x 128: "
        f"{samples}; weights are random but for MiniLM's encoder, which latency does not depend on"
    )


def _estimate(estimate: dict[str, Any]) -> str:
    low, high = estimate["interval"]
    return f"{estimate['value']:.2f} [{low:.2f}, {high:.2f}]"


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
