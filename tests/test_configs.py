"""A configuration that exists is within its limits; what is not, says which value, which limit and what to do."""

import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
import yaml

from theseus_deploy.configs import (
    BenchmarkConfig,
    CompressConfig,
    Config,
    ExportConfig,
    FinetuneConfig,
    Method,
    Thaw,
    TrainingConfig,
)
from theseus_deploy.errors import ConfigError

KINDS = [Config, TrainingConfig, FinetuneConfig, CompressConfig, ExportConfig, BenchmarkConfig]


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_are_within_the_limits_and_frozen(kind: type[Config]) -> None:
    config = kind()
    with pytest.raises(FrozenInstanceError):
        config.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        (Config, {"seed": -1}, "--seed -1 is below 0; raise it"),
        (Config, {"threads": 0}, "--threads 0 is below 1; raise it"),
        (Config, {"threads": 100_000}, "--threads 100000 is above 4096; lower it"),
        (Config, {"seed": 2**32}, "--seed 4294967296 is above 4294967295; lower it"),
        (Config, {"device": "tpu"}, "--device 'tpu' is not one of auto, cpu, cuda; correct it"),
        (Config, {"seed": 1.5}, "--seed 1.5 is not a whole number; correct it"),
        (Config, {"seed": None}, "--seed None is not a whole number"),
        (Config, {"seed": "1"}, "--seed '1' is not a whole number"),
        (Config, {"seed": True}, "--seed True is not a whole number"),
        (Config, {"threads": False}, "--threads False is not a whole number"),
        (TrainingConfig, {"epochs": 0}, "--epochs 0 is not above 0; raise it"),
        (TrainingConfig, {"epochs": True}, "--epochs True is not a finite number"),
        (TrainingConfig, {"epochs": float("nan")}, "--epochs nan is not a finite number; correct it"),
        (TrainingConfig, {"epochs": float("inf")}, "--epochs inf is not a finite number"),
        (TrainingConfig, {"max_steps": 0}, "--max-steps 0 is below 1"),
        (TrainingConfig, {"lr": float("inf")}, "--lr inf is not a finite number; correct it"),
        (TrainingConfig, {"lr": 0}, "--lr 0 is outside 0..1 (exclusive); the usual is 1e-5 to 2e-4"),
        (TrainingConfig, {"lr": 1}, "--lr 1 is outside 0..1 (exclusive)"),
        (TrainingConfig, {"batch_size": 0}, "--batch-size 0 is below 1"),
        (TrainingConfig, {"accumulate": 0}, "--accumulate 0 is below 1"),
        (TrainingConfig, {"max_length": 3}, "--max-length 3 is below 4"),
        (TrainingConfig, {"precision": "int8"}, "--precision 'int8' is not one of auto, fp32, bf16, fp16"),
        (TrainingConfig, {"report_to": "wandb"}, "--report-to 'wandb' is not a list, each of it a text"),
        (TrainingConfig, {"report_to": (1,)}, "--report-to [1] is not a list, each of it a text"),
        (FinetuneConfig, {"warmup": 1.1}, "--warmup 1.1 is outside 0..1; move it inside"),
        (FinetuneConfig, {"warmup": -0.1}, "--warmup -0.1 is outside 0..1"),
        (CompressConfig, {"method": "prune"}, "--method 'prune' is not one of theseus, truncate, distill"),
        (CompressConfig, {"layers": 0}, "--layers 0 is below 1"),
        (CompressConfig, {"layers": 3, "map": "0-1"}, "--layers 3 and --map 0-1 were both given; keep one of them"),
        (CompressConfig, {"init": "random"}, "--init 'random' is not one of auto, bottom, first, last, every-other"),
        (CompressConfig, {"schedule": "cosine"}, "--schedule 'cosine' is not one of linear, constant, anti"),
        (CompressConfig, {"base_rate": 1.1}, "--base-rate 1.1 is outside 0..1"),
        (CompressConfig, {"replace_until": -1}, "--replace-until -1 is outside 0..1"),
        (CompressConfig, {"k": 0}, "--k 0 is not above 0; the rate must rise"),
        (CompressConfig, {"precision": "fp16"}, "use bf16, fp32 or auto"),
        (CompressConfig, {"temperature": 0.0}, "--temperature 0.0 is not above 0; the usual is 1 to 10"),
        (CompressConfig, {"alpha": 2}, "--alpha 2 is outside 0..1"),
        (ExportConfig, {"opset": 17}, "--opset 17 is outside 18..23"),
        (ExportConfig, {"opset": 24}, "--opset 24 is outside 18..23"),
        (ExportConfig, {"atol": 0.0}, "--atol 0.0 is not above 0; the usual is 1e-4"),
        (ExportConfig, {"atol": float("inf")}, "--atol inf is not a finite number"),
        (ExportConfig, {"quantize": "int4"}, "--quantize 'int4' is not one of "),
        (BenchmarkConfig, {"batch": ()}, "--batch is empty; give at least one batch size, such as 1"),
        (BenchmarkConfig, {"batch": (0, 8)}, "--batch 0,8 holds a value below 1; raise it"),
        (BenchmarkConfig, {"batch": (0,)}, "--batch 0 holds a value below 1; raise it"),
        (BenchmarkConfig, {"batch": (True,)}, "--batch [True] is not a list, each of it a whole number"),
        (BenchmarkConfig, {"sequence": (-1,)}, "--sequence -1 holds a value below 1"),
        (BenchmarkConfig, {"runtime": "tvm"}, "--runtime 'tvm' is not one of auto, torch, onnxruntime, openvino"),
        (BenchmarkConfig, {"min_samples": 4}, "--min-samples 4 is below 5"),
        (BenchmarkConfig, {"max_seconds": 0.5}, "--max-seconds 0.5 is below 1"),
        (BenchmarkConfig, {"max_p50_ratio": -1}, "--max-p50-ratio -1 is below 0"),
        (BenchmarkConfig, {"max_p95_ratio": -0.5}, "--max-p95-ratio -0.5 is below 0"),
        (BenchmarkConfig, {"max_size_ratio": -1}, "--max-size-ratio -1 is below 0"),
        (BenchmarkConfig, {"max_metric_drop": 1.5}, "--max-metric-drop 1.5 is outside 0..1"),
        (BenchmarkConfig, {"min_label_loyalty": 90}, "--min-label-loyalty 90 is outside 0..1"),
        (BenchmarkConfig, {"min_label_loyalty": float("nan")}, "--min-label-loyalty nan is not a finite number"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(kind: type[Config], values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Config, {"seed": 0, "threads": 1}),
        (TrainingConfig, {"epochs": 0.01, "lr": 0.999, "max_length": 4, "max_steps": 1}),
        (FinetuneConfig, {"warmup": 0}),
        (FinetuneConfig, {"warmup": 1, "precision": "fp16"}),
        (CompressConfig, {"base_rate": 0, "replace_until": 1, "alpha": 1, "k": 1e-9}),
        (CompressConfig, {"method": "distill", "precision": "fp16"}),
        (ExportConfig, {"opset": 18}),
        (BenchmarkConfig, {"max_p50_ratio": 0, "min_label_loyalty": 1, "max_metric_drop": 0, "min_samples": 5}),
    ],
)
def test_the_limits_themselves_are_allowed(kind: type[Config], values: dict[str, Any]) -> None:
    config = kind(**values)
    assert {name: getattr(config, name) for name in values} == values


@pytest.mark.parametrize(
    "config",
    [
        FinetuneConfig(max_steps=3, report_to=("wandb", "mlflow"), threads=2),
        CompressConfig(map="0-1,2-3", k=0.1, precision="bf16"),
        ExportConfig(quantize="dynamic"),
        BenchmarkConfig(batch=(1, 2), sequence=(8,), max_p50_ratio=0.5),
    ],
)
def test_a_configuration_survives_json_and_yaml(config: Config) -> None:
    data = config.to_json()
    assert list(data) == [field.name for field in fields(config)]
    assert type(config).from_mapping(json.loads(json.dumps(data)), "file") == config
    assert type(config).from_mapping(yaml.safe_load(yaml.safe_dump(data)), "file") == config


def test_a_recipe_spells_keys_either_way_and_numbers_as_it_likes() -> None:
    recipe = yaml.safe_load("{batch-size: 8, max_steps: 5, lr: 2e-5, epochs: 2}")
    assert FinetuneConfig.from_mapping(recipe, "r") == FinetuneConfig(batch_size=8, max_steps=5, lr=2e-5, epochs=2)
    recipe = yaml.safe_load("{batch: [1, 8], max-p50-ratio: 5e-1, sequence: []}")
    assert BenchmarkConfig.from_mapping(recipe, "r") == BenchmarkConfig(batch=(1, 8), max_p50_ratio=0.5)


@pytest.mark.parametrize(
    ("recipe", "trackers"),
    [
        ("report-to: tensorboard", ("tensorboard",)),
        ("report-to: tensorboard, wandb", ("tensorboard", "wandb")),
        ("report-to: [tensorboard, wandb]", ("tensorboard", "wandb")),
    ],
)
def test_a_list_of_a_recipe_may_be_written_as_in_a_command(recipe: str, trackers: tuple[str, ...]) -> None:
    assert FinetuneConfig.from_mapping(yaml.safe_load(recipe), "r").report_to == trackers
    assert BenchmarkConfig.from_mapping({"batch": 8}, "r").batch == (8,)
    assert BenchmarkConfig.from_mapping({"batch": "1, 8", "sequence": "16"}, "r") == BenchmarkConfig(
        batch=(1, 8), sequence=(16,)
    )
    with pytest.raises(ConfigError, match=r"--batch \['1', 'x'\] is not a list, each of it a whole number"):
        BenchmarkConfig.from_mapping({"batch": "1,x"}, "r")


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("{learing-rate: 1}", "recipe.yaml: key 'learing-rate' is unknown; known: seed, device"),
        ("{batch-size: 1, batch_size: 2}", "recipe.yaml: key 'batch_size' is there twice, with - and with _"),
        ("{batch-sise: 1}", "recipe.yaml: key 'batch-sise' is unknown; did you mean 'batch-size'?"),
        ("{warmups: 1}", "did you mean 'warmup'?"),
        ("{1: 1}", "recipe.yaml: key 1 is unknown"),
        ("{epochs: many}", "recipe.yaml: --epochs 'many' is not a finite number"),
        ("{epochs: nan}", "recipe.yaml: --epochs nan is not a finite number"),
        ("{seed: 1e3}", "recipe.yaml: --seed '1e3' is not a whole number"),
        ("{threads: yes}", "recipe.yaml: --threads True is not a whole number"),
        ("{report-to: [1]}", "recipe.yaml: --report-to [1] is not a list, each of it a text"),
        ("{report-to: }", "recipe.yaml: --report-to None is not a list, each of it a text"),
        ("{lr: }", "recipe.yaml: --lr None is not a finite number"),
    ],
)
def test_a_recipe_is_refused_with_its_name(recipe: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FinetuneConfig.from_mapping(yaml.safe_load(recipe), "recipe.yaml")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "drops", "thaws"),
    [
        ("theseus", True, "none"),
        ("truncate", True, "none"),
        ("distill", False, "all"),
        ("theseus+distill", False, "all"),
    ],
)
def test_with_logits_to_learn_from_all_is_thawed_and_nothing_dropped(method: Method, drops: bool, thaws: Thaw) -> None:
    config = CompressConfig(method=method)
    assert (config.drops(tags_words=False), config.thaws) == (drops, thaws)
    assert config.drops(tags_words=True)
    for words in (False, True):
        assert replace(config, dropout=not drops).drops(words) != drops
    assert replace(config, thaw="head").thaws == "head"
