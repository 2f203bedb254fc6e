"""The speed benchmark compares what it says it compares: the arms do the work that they are named for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import compress_arms
from benchmarks.compress_arms import STRIDE, Arm, Bench, Settings
from benchmarks.compress_speed import OFFICIAL, PHASES, TIMES, by_phase, compare
from theseus_deploy.compress.modules import successor_parameters, theseus_modules

ROWS, STEPS = 64, 24  # three epochs in batches of 8


@pytest.fixture
def settings(encoder_only: Path, corpus: Path) -> Settings:
    return Settings(str(encoder_only), str(corpus), rows=ROWS, batch=8, max_length=40)


def test_theseus_and_bare_do_the_same_work(settings: Settings) -> None:
    benches = [Bench(settings, Arm(name, "fp32")) for name in ("theseus", "bare")]
    start = benches[0].weights().copy()
    runs = [bench.run() for bench in benches]
    assert benches[0].masks == benches[1].masks
    assert not all(all(mask) for mask in benches[0].masks[:8])
    assert [len(run["seconds"]) for run in runs] == [STEPS, STEPS]
    weights = [bench.weights() for bench in benches]
    assert np.abs(weights[0] - start).max() > 1e-4
    assert np.array_equal(*weights)


def test_the_official_arm_pays_for_everything(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(settings, OFFICIAL)
    network, shapes, have = bench.model, [], []
    network.register_forward_pre_hook(lambda _, __, inputs: shapes.append(inputs["input_ids"].shape), with_kwargs=True)
    forward, backward = [], []
    network.register_forward_pre_hook(lambda *_: forward.append(drawn(bench)))

    def clip(parameters: Any, norm: float) -> None:
        backward.append({name for name, weight in network.named_parameters() if weight.grad is not None})
        have.append(norm)
        assert {id(one) for one in parameters} == {id(one) for one in network.parameters()}

    monkeypatch.setattr(compress_arms, "clip_grad_norm_", clip)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    run = bench.run()
    assert len(run["seconds"]) == len(bench.steps) == STEPS // STRIDE
    assert set(shapes) == {(8, 40)}
    assert set(have) == {1.0}
    assert [mask for mask, _ in forward] == [bench.masks[step] for step in bench.steps]
    for (_, took_part), graded in zip(forward, backward, strict=True):
        assert graded == took_part
    assert any(not all(mask) for mask, _ in forward)
    moved = {name for name, weight in network.named_parameters() if not torch.equal(weight, before[name])}
    successors = {id(weight) for weight in successor_parameters(network)}
    assert moved == {name for name, weight in network.named_parameters() if id(weight) in successors}


def drawn(bench: Bench) -> tuple[tuple[bool, ...], set[str]]:
    """Return the mask of a step, and the names of all the weights that take part in it."""
    idle = {
        id(weight)
        for module in theseus_modules(bench.model)
        for weight in (module.predecessor if module.replaced else module.successor).parameters()
    }
    names = {name for name, weight in bench.model.named_parameters() if id(weight) not in idle}
    return tuple(module.replaced for module in theseus_modules(bench.model)), names


def test_the_official_length_is_128() -> None:
    assert Settings().max_length == 128


def test_fine_tuning_trains_all_of_the_predecessor(settings: Settings) -> None:
    bench = Bench(settings, Arm("finetune", "fp32"))
    before = {name: weight.detach().clone() for name, weight in bench.model.named_parameters()}
    bench.run()
    still = {name for name, weight in bench.model.named_parameters() if torch.equal(weight, before[name])}
    assert not {name for name in still if "embeddings" not in name}
    assert not theseus_modules(bench.model)


def test_ratios_are_of_the_same_rounds_and_phases() -> None:
    theseus = Arm("theseus", "fp32")
    official = by_phase({"steps": [0, 2, 4], "steps_a_phase": 2}, [[9.0, 6.0, 8.0], [9.0, 12.0, 16.0]])
    facts = {"steps": list(range(6)), "steps_a_phase": 2}
    ours = by_phase(facts, [[0.0, 1.0, 0.0, 1.0, 2.0, 2.0], [0.0, 1.0, 0.0, 2.0, 4.0, 4.0]])
    (found,) = compare(TIMES, [OFFICIAL, theseus], {OFFICIAL: official, theseus: ours}, seed=1)
    assert found["ratio"] == "official fp32 / theseus fp32"
    assert [found["phases"][phase]["value"] for phase in PHASES] == pytest.approx([5.6, 18.0, 12.0, 4.0])
    assert found["phases"][PHASES[0]]["interval"] == pytest.approx((5.6, 5.6))
    assert [found["phases"][phase]["met"] for phase in PHASES] == [False, True, True, False]


@pytest.mark.thorough
def test_the_rate_is_held_then_rises_then_is_one(settings: Settings) -> None:
    rates = [Bench(settings, OFFICIAL).schedule.rate(step) for step in range(STEPS)]
    assert rates[:9] == [0.3] * 9
    assert all(0.3 < rate < 1 for rate in rates[9:16])
    assert rates[16:] == [1.0] * 8
