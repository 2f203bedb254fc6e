"""The table of arms: settings are chosen on validation rows alone, and a lead is a paired one."""

import base64
import zlib
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from benchmarks.accuracy_table import GROUPS, METRICS, OURS, Lead, Truth, choose, summarise, unpack
from theseus_deploy.tasks import Task

ROWS = 400
EQUIVALENT = "f1 of equivalent"
DRAW = np.random.default_rng(0)
TRUTH = DRAW.integers(2, size=ROWS)


def pack(labels: Any) -> str:
    return base64.b64encode(zlib.compress(labels.astype(np.uint8).tobytes())).decode()


def run(
    arm: str,
    seed: int,
    errors: int,
    lr: float = 1e-4,
    validation: float = 0.5,
    task: str = "banking77",
    init: str = "bottom",
    dropout: bool = False,
) -> dict[str, Any]:
    """Return a run that errs on so many rows, other ones for every seed."""
    wrong = np.random.default_rng(seed).permutation(ROWS)[:errors]
    labels = TRUTH.copy()
    labels[wrong] = 1 - labels[wrong]
    test = {"accuracy": 1 - errors / ROWS, "matthews": float(matthews_corrcoef(TRUTH, labels))}
    return {
        "task": task, "arm": arm, "seed": seed, "lr": lr, "steps": 100,
        "config": {"init": init, "dropout": dropout},
        "predictions": pack(labels), "test": test,
        "validation": dict.fromkeys(test, validation), "loyalty": {"label": 0.9, "probability": 0.8},
        "predecessor_test": dict.fromkeys(test, 0.9), "predecessor_validation": dict.fromkeys(test, 0.9), "machine": {},
    }  # fmt: skip


def test_scores_of_resamples_are_those_of_scikit_learn() -> None:
    labels = (DRAW.integers(2, size=ROWS) ^ (TRUTH & DRAW.integers(2, size=ROWS))).astype(np.uint8)
    weights = DRAW.multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=3)
    truth = Truth(TRUTH.astype(np.uint8))
    found = {
        name: METRICS[name].score(weights @ METRICS[name].tally(labels, truth))
        for name in ("accuracy", "matthews", EQUIVALENT)
    }
    for place, counts in enumerate(weights):
        expected = matthews_corrcoef(TRUTH, labels, sample_weight=counts)
        assert found["matthews"][place] == pytest.approx(expected)
        expected = f1_score(TRUTH, labels, sample_weight=counts, pos_label=0)
        assert found[EQUIVALENT][place] == pytest.approx(expected)
        assert found["accuracy"][place] == pytest.approx(np.average(labels == TRUTH, weights=counts))


def test_entities_of_resamples_are_scored_as_a_task_scores_them() -> None:
    names = ("B-person", "I-person", "B-place", "I-place", "O")
    lengths = tuple(int(length) for length in DRAW.integers(1, 9, size=60))
    labels, other = (DRAW.choice(5, p=[0.2, 0.2, 0.1, 0.1, 0.4], size=sum(lengths)).astype(np.uint8) for _ in range(2))
    labels = np.where(DRAW.random(len(labels)) < 0.7, other, labels).astype(np.uint8)
    truth = Truth(other, names, lengths)
    tally = METRICS["f1"].tally(labels, truth)
    words, guessed = (np.split(tags, np.cumsum(lengths)[:-1]) for tags in (other, labels))
    for _ in range(3):
        rows = DRAW.integers(len(lengths), size=len(lengths))
        logits = np.eye(len(names))[np.concatenate([guessed[row] for row in rows])]
        expected = Task("tokens", names, ("tokens",), "tags").score(logits, [words[row].tolist() for row in rows])["f1"]
        assert 0.3 < expected < 0.9
        assert METRICS["f1"].score(tally[rows].sum(axis=0)) == pytest.approx(expected)


def test_the_learning_rate_is_chosen_where_nobody_reports() -> None:
    runs = [
        run(OURS, 1, errors=10, lr=1e-4, validation=0.6),
        run(OURS, 1, errors=90, lr=2e-4, validation=0.7),
    ]
    assert choose(runs, "banking77")[OURS].runs[0]["lr"] == 2e-4


def test_a_learning_rate_that_lacks_seeds_is_not_chosen() -> None:
    runs = [run(OURS, seed, errors=10, validation=0.6) for seed in (1, 2)]
    runs.append(run(OURS, 1, errors=90, lr=2e-4, validation=0.9))
    assert [one["lr"] for one in choose(runs, "banking77")[OURS].runs] == [1e-4, 1e-4]


def test_runs_that_start_or_drop_otherwise_are_another_arm_however_many_they_are() -> None:
    runs = [run(OURS, 2, errors=10, init="last"), *(run(OURS, seed, errors=90, validation=0.9) for seed in (1, 2))]
    runs.append(run(OURS, 3, errors=10, init="last", dropout=True))
    found = choose(runs, "banking77")
    assert {name: [one["seed"] for one in arm.runs] for name, arm in found.items()} == {
        OURS: [2],
        f"{OURS}, init bottom": [1, 2],
        f"{OURS}, dropout": [3],
    }


def test_leads_are_of_the_shipped_default_and_have_intervals() -> None:
    runs = [run(OURS, seed, errors=40, task=task) for seed in (1, 2, 3) for task in ("banking77", "cola")]
    runs += [run("truncate", seed, errors=100, task=task) for seed in (1, 2, 3) for task in ("banking77", "cola")]
    runs += [run("distill", seed, errors=40, task=task) for seed in (1, 2, 3) for task in ("banking77", "cola")]
    truths = {task: {"truth": pack(TRUTH)} for task in ("banking77", "cola")}
    found = summarise(runs, truths)
    banking77, cola = found["tasks"]
    arms = {arm["arm"]: arm for arm in banking77["arms"]}
    assert (cola["metric"], banking77["metric"]) == ("matthews", "accuracy")
    assert arms[OURS]["ahead"] is None
    assert arms[OURS]["retained"] == pytest.approx(0.9 / 0.9)
    assert arms["truncate"]["ahead"]["value"] == pytest.approx(0.15)
    low, high = arms["truncate"]["ahead"]["interval"]
    assert 0.1 < low < 0.15 < high < 0.2
    assert arms["distill"]["ahead"] == {"value": 0.0, "interval": pytest.approx((0.0, 0.0), abs=0.05)}
    means = {one["arm"]: one for one in found["means"]["tuned"]}
    assert means["truncate"]["ahead"]["interval"][0] > 0
    assert means[OURS]["tasks"] == 2


def test_a_lead_is_of_the_seeds_that_both_have() -> None:
    runs = [run(OURS, 1, errors=40), run(OURS, 2, errors=80), run("truncate", 2, errors=100)]
    (task,) = summarise(runs, {"banking77": {"truth": pack(TRUTH)}})["tasks"]
    assert next(arm["ahead"]["value"] for arm in task["arms"] if arm["arm"] == "truncate") == pytest.approx(20 / ROWS)


def test_rows_are_resampled_together() -> None:
    """Two arms that err on the same rows but one differ by about that one, however few rows there are."""
    runs = [run(OURS, 1, errors=40), run("truncate", 1, errors=41)]
    (task,) = summarise(runs, {"banking77": {"truth": pack(TRUTH)}})["tasks"]
    low, high = next(arm["ahead"]["interval"] for arm in task["arms"] if arm["arm"] == "truncate")
    assert -2 / ROWS <= low <= 1 / ROWS <= high <= 4 / ROWS


@pytest.mark.parametrize(("seeds", "least"), [(2, 0.84), (3, 0.89), (5, 0.91)])
def test_the_interval_of_few_seeds_covers_the_truth(seeds: int, least: float) -> None:
    """A bootstrap over seeds would cover it in 50 % of the trials of two, and in 75 % of those of three."""
    held, trials, rows_alone, draw = 0, 1_000, 0.03, np.random.default_rng(0)
    for _ in range(trials):
        differences = draw.normal(size=seeds)
        parts = ((differences.var(ddof=1) / seeds, seeds - 1.0), (rows_alone, 399.0))
        low, high = Lead(differences.mean() + draw.normal() * rows_alone**0.5, parts).estimate.interval
        held += low <= 0 <= high
    assert least < held / trials < 0.97


def test_seeds_that_disagree_widen_an_interval_and_a_mean_over_tasks_knows_more_of_them() -> None:
    truths = {task: {"truth": pack(TRUTH), "predictions": pack(TRUTH)} for task in GROUPS["tuned"]}
    both = [run(OURS, seed, errors=40 * seed, task=task) for seed in (1, 2) for task in truths]
    both += [run("truncate", seed, errors=100, task=task) for seed in (1, 2) for task in truths]
    one, two = (summarise([run for run in both if run["seed"] <= most], truths) for most in (1, 2))

    def width(arms: list[dict[str, Any]]) -> float:
        low, high = next(arm["ahead"]["interval"] for arm in arms if arm["arm"] == "truncate")
        return float(high - low)

    assert width(one["tasks"][0]["arms"]) < width(two["tasks"][0]["arms"]) / 3
    assert width(two["means"]["tuned"]) < width(two["tasks"][0]["arms"]) / 2


def test_every_group_of_tasks_has_a_mean_of_its_own() -> None:
    errors = {"banking77": 40, **dict.fromkeys(GROUPS["later"], 80), "newsgroups": 100}
    runs = [run(OURS, 1, errors=count, task=task) for task, count in errors.items()]
    found = summarise(runs, {task: {"truth": pack(TRUTH)} for task in errors})
    groups = {task["task"]: task["group"] for task in found["tasks"]}
    assert groups == {"banking77": "tuned", **dict.fromkeys(GROUPS["later"], "later"), "newsgroups": "newsgroups"}
    for group, count, kept in (("tuned", 1, 1.0), ("later", 3, 0.8 / 0.9), ("newsgroups", 1, 0.75 / 0.9)):
        assert [(one["tasks"], one["retained"]) for one in found["means"][group]] == [(count, pytest.approx(kept))]


def test_replacing_is_judged_between_arms_that_start_alike() -> None:
    runs = [run("theseus", 1, errors=60), run("truncate, as shipped", 1, errors=100), run(OURS, 1, errors=40)]
    truths = {"banking77": {"truth": pack(TRUTH)}}
    (pair,) = summarise(runs, truths)["tasks"][0]["replacing"]
    assert (pair["arm"], pair["without"]) == ("theseus", "truncate, as shipped")
    assert pair["ahead"]["value"] == pytest.approx(40 / ROWS)
    runs.append(run("distill, as shipped", 1, errors=100, init="last"))
    assert summarise(runs, truths)["tasks"][0]["replacing"] == [pair]


def test_the_rising_rate_is_judged_against_other_rates_on_the_seeds_of_both() -> None:
    runs = [run("theseus", 1, errors=60), run("theseus", 2, errors=20), run(OURS, 1, errors=40)]
    runs.append(run("theseus, constant 0.5", 1, errors=100))
    (pair,) = summarise(runs, {"banking77": {"truth": pack(TRUTH)}})["tasks"][0]["curriculum"]
    assert (pair["arm"], pair["without"]) == ("theseus", "theseus, constant 0.5")
    assert pair["ahead"]["value"] == pytest.approx(40 / ROWS)


def test_what_a_constant_answer_scores_is_said() -> None:
    truths = {task: {"truth": pack(TRUTH), "predictions": pack(TRUTH)} for task in ("mrpc", "cola")}
    tasks = summarise([run(OURS, 1, errors=40, task=task) for task in truths], truths)["tasks"]
    first = 1 - float(TRUTH.mean())
    assert {(task["task"], task["metric"]): task["constant"] for task in tasks} == {
        ("cola", "matthews"): 0.0,
        ("mrpc", "accuracy"): pytest.approx(max(first, 1 - first)),
        ("mrpc", EQUIVALENT): pytest.approx(2 * first / (1 + first)),
    }


def test_a_second_metric_judges_the_same_runs_and_has_no_part_in_a_mean() -> None:
    runs = [run(OURS, seed, errors=40 * seed, task="mrpc") for seed in (1, 2)]
    before = np.where(np.arange(ROWS) < 20, 1 - TRUTH, TRUTH)
    found = summarise(runs, {"mrpc": {"truth": pack(TRUTH), "predictions": pack(before)}})
    by_accuracy, by_f1 = found["tasks"]
    expected = [f1_score(TRUTH, unpack(one["predictions"]), pos_label=0) for one in runs]
    assert by_f1["arms"][0]["tests"] == pytest.approx(expected)
    assert by_f1["predecessor"] == {"validation": None, "test": pytest.approx(f1_score(TRUTH, before, pos_label=0))}
    assert by_f1["arms"][0]["seeds"] == by_accuracy["arms"][0]["seeds"]
    assert [one["tasks"] for one in found["means"]["tuned"]] == [1]
