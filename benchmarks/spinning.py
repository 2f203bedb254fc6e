"""How long should OpenMP's threads spin while they wait? Seconds a training step, alone and beside a busy process.

    .venv/bin/python benchmarks/spinning.py

Every round measures each setting in a process of its own, in random order; ratios are to libgomp's default, paired by
round. Writes `benchmarks/results/spinning.json`.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median

from theseus_deploy.disk import write_atomically
from theseus_deploy.machine import this_machine, versions

RESULT = Path(__file__).resolve().parent / "results" / "spinning.json"
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "spin 100000": {"GOMP_SPINCOUNT": "100000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
ROUNDS, STEPS, WARM = 3, 10, 3
BUSY = "while True: pass"


def measure_here() -> None:
    """Print the seconds of each fine-tuning step of MiniLM: batch 32, 36 tokens, bf16 autocast."""
    import time

    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        id2label=dict(enumerate("abc")),
    )
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids, labels = torch.randint(100, 30_000, (32, 36)), torch.randint(0, 3, (32,))
    seconds = []
    for _ in range(WARM + STEPS):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=this_machine().native_bf16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds[WARM:]))


def measure(setting: str) -> list[float]:
    """Return the seconds of each step under a setting, in a process of its own."""
    command = [sys.executable, __file__, "--here"]
    done = subprocess.run(command, env={**os.environ, **SETTINGS[setting]}, stdout=subprocess.PIPE, check=True)
    return list(json.loads(done.stdout))


def main() -> None:
    """Measure every setting with 0 and 1 busy neighbours."""
    draw, found = random.Random(1), []
    for neighbours in (0, 1):
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(neighbours)]
        try:
            rounds = []
            for _ in range(ROUNDS):
                order = draw.sample(sorted(SETTINGS), len(SETTINGS))
                rounds.append({setting: measure(setting) for setting in order})
        finally:
            for process in busy:
                process.kill()
        for setting in SETTINGS:
            ratios = [median(one[setting]) / median(one["default"]) for one in rounds]
            seconds = median(median(one[setting]) for one in rounds)
            found.append({"setting": setting, "busy_neighbours": neighbours, "p50_seconds": seconds,
                          "ratio_to_default": {"median": median(ratios), "rounds": ratios},
                          "samples": [one[setting] for one in rounds]})  # fmt: skip
            print(f"{setting:12} beside {neighbours}: {seconds:.3f} s, ratio {median(ratios):.2f} {ratios}", flush=True)
    report = {"machine": this_machine().to_json(), "versions": versions(), "steps": STEPS, "settings": found}
    write_atomically(RESULT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    measure_here() if "--here" in sys.argv else main()
