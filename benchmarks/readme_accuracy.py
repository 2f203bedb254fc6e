"""The tables of both READMEs that say what compressing keeps; `readme.py` puts them in place."""

import json
from pathlib import Path
from typing import Any

from benchmarks.accuracy_table import JUDGED_BY

RESULTS = Path(__file__).resolve().parent / "results"
REPEATS = RESULTS / "accuracy_fp32_repeats.jsonl"
BF16, FP32 = RESULTS / "accuracy.json", RESULTS / "accuracy_fp32.json"  # runs of machines with bf16, and without
SHOWN = ("theseus+distill", "theseus", "theseus, official", "truncate, as shipped", "truncate", "distill")
RIVALS = ("truncate", "distill")


def accuracy(path: Path = BF16) -> str:
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
        "both have; its interval joins a paired bootstrap over the rows with Student's t over the seeds (Welch and "
        "Satterthwaite). Of one seed it knows only what other rows would do, of two it may hold in 87 % "
        "instead of 95, and of another predecessor it knows nothing. From "
        f"[`results/{path.name}`](results/{path.name}), made by `python "
        f"benchmarks/accuracy_table.py benchmarks/results/{path.name}l` from what `python benchmarks/accuracy.py` made."
    )


def kept() -> str:
    """Return what the default kept of the predecessor on each task, beside its rivals, and what replacing is worth."""
    report, later = (json.loads(path.read_text("utf-8")) for path in (BF16, FP32))
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
        "points of the task's metric, on the seeds that both have, with an interval of what other rows (a paired "
        "bootstrap) and other seeds (Student's t) would do; of one seed, rows alone. From the held-out tasks on, runs "
        "are of a machine without bf16. From "
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
    return _pairs("replacing", ("with replacing", "without")) + (
        "\n\nSame start, decay, dropout, rate and steps. `theseus` and `truncate, as shipped` train the same weights, "
        "those of the layers; `distill, as shipped` also trains embeddings and head from the first step, "
        "`theseus+distill` from rate 1 on. From [`benchmarks/results/accuracy_fp32.json`]"
        "(benchmarks/results/accuracy_fp32.json), for the first pair, and "
        "[`accuracy.json`](benchmarks/results/accuracy.json)."
    )


def curriculum() -> str:
    """Return how far the rising rate is ahead of a constant and of a falling one."""
    return _pairs("curriculum", ("curriculum", "other rates")) + (
        "\n\nThe task's loss alone; the same but for the replacing rate until half of the training, from where it is 1 "
        "in all. The lead is on the seeds that both have. The first lines are of the machine without bf16, "
        "[`results/accuracy_fp32.json`](results/accuracy_fp32.json), the others of "
        "[`results/accuracy.json`](results/accuracy.json)."
    )


def _pairs(kind: str, titles: tuple[str, str]) -> str:
    """Return a table of arms that differ in one thing, on every task that both were run on."""
    lines = [f"| points on test (runs) | {' | '.join(titles)} | ahead by [95 %] |", "| --- | ---: | ---: | ---: |"]
    for path in (FP32, BF16):
        for task in json.loads(path.read_text("utf-8"))["tasks"]:
            arms = {arm["arm"]: arm for arm in task["arms"]}
            for pair in task[kind]:
                one, other = (
                    f"{name} {100 * arms[name]['test']:.1f} ({len(arms[name]['seeds'])})"
                    for name in (pair["arm"], pair["without"])
                )
                lines.append(f"| {task['task']}, {task['metric']} | {one} | {other} | {_lead(pair['ahead'])} |")
    return "\n".join(lines)


def repeats() -> str:
    """Return which of the recorded runs were made again, and whether they answer the same."""
    runs = [json.loads(line) for line in REPEATS.read_text("utf-8").splitlines()]
    lines = ["| made again | predictions |", "| --- | --- |"]
    for run in runs:
        metric = JUDGED_BY.get(run["task"], "accuracy")
        scores = (_per_cent(run[which][metric]) for which in ("again", "test"))
        found = "the same" if run["same"] else "{} {} instead of {}".format(metric, *scores)
        other = "" if run["same_predecessor"] else ", from a predecessor fine-tuned anew"
        lines.append(f"| {run['task']}, {run['arm']}, rate {run['lr']:g}, seed {run['seed']}{other} | {found} |")
    same, cpus = sum(run["same"] for run in runs), sorted({one["cpu"] for run in runs for one in run["machines"]})
    return "\n".join(lines) + (
        f"\n\n{same} of {len(runs)} that `accuracy.py --repeat 0.1` drew gave the same predictions, on "
        f"{', '.join(cpus)} without bf16. From [`results/{REPEATS.name}`](results/{REPEATS.name})."
    )


def means() -> str:
    """Return what each way of compressing kept in the mean over tasks: those settings were tuned on, and others."""
    report, later = (json.loads(path.read_text("utf-8")) for path in (BF16, FP32))
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
