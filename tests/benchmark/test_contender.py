import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import make_bert
from theseus_deploy.benchmark.contender import line_up, missing_reference, with_names
from theseus_deploy.benchmark.cuda import CudaGraph
from theseus_deploy.configs import BenchmarkConfig, ExportConfig
from theseus_deploy.errors import ArtifactError, ConfigError, ModelError
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.machine import Machine, this_machine

AUTO = BenchmarkConfig()


def changed(bundle: Path, folder: Path, section: str, **facts: object) -> Path:
    """Copy a bundle as if its manifest had been written with other facts."""
    copy = shutil.copytree(bundle, folder / "-".join(map(str, facts.values())))
    manifest = json.loads((copy / "theseus.json").read_text())
    manifest[section].update(facts)
    (copy / "theseus.json").write_text(json.dumps(manifest))
    return copy


def test_every_kind_of_folder_gets_its_runtime(tiny_bert: Path, fp32_bundle: Path) -> None:
    base, bundle = line_up(str(tiny_bert), [str(fp32_bundle)], AUTO)
    assert (base.runtime, base.precision, base.layers, base.positions) == ("torch", "fp32", 4, 64)
    assert (bundle.runtime, bundle.precision, bundle.layers) == ("onnxruntime", "fp32", 4)
    assert base.bytes == (tiny_bert / "model.safetensors").stat().st_size
    assert bundle.bytes == (fp32_bundle / "model.onnx").stat().st_size
    assert base.task.max_length == bundle.task.max_length


def test_a_baseline_follows_the_runtime_where_it_can(tiny_bert: Path, fp32_bundle: Path) -> None:
    openvino = BenchmarkConfig(runtime="openvino")
    assert [one.runtime for one in line_up(str(tiny_bert), [str(fp32_bundle)], openvino)] == ["torch", "openvino"]
    assert [one.runtime for one in line_up(str(fp32_bundle), [str(fp32_bundle)], openvino)] == ["openvino"] * 2


def test_a_runtime_that_cannot_run_a_candidate_is_refused(tiny_bert: Path, fp32_bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"--runtime torch cannot run .* which is a bundle; give a checkpoint"):
        line_up(str(tiny_bert), [str(fp32_bundle)], BenchmarkConfig(runtime="torch"))
    with pytest.raises(ConfigError, match=r"--runtime openvino cannot run .* which is a checkpoint; give a bundle"):
        line_up(str(tiny_bert), [str(tiny_bert)], BenchmarkConfig(runtime="openvino"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(tiny_bert: Path, fp32_bundle: Path) -> None:
    with pytest.raises(ModelError, match=r"--device cuda, but torch sees no GPU here; use --device cpu"):
        line_up(str(tiny_bert), [str(tiny_bert)], BenchmarkConfig(device="cuda"))
    with pytest.raises(ConfigError, match=r"--device cuda, but this onnxruntime has only .*CPU.*; use --device cpu"):
        line_up(str(fp32_bundle), [str(fp32_bundle)], BenchmarkConfig(device="cuda"))
    with pytest.raises(ConfigError, match=r"--device cuda, but this onnxruntime"):
        CudaGraph(fp32_bundle / "model.onnx", threads=1)


def test_a_runtime_without_a_gpu_is_refused(tiny_bert: Path, fp32_bundle: Path) -> None:
    config = BenchmarkConfig(device="cuda", runtime="openvino")
    with pytest.raises(ConfigError, match=r"--device cuda: .* runs in openvino on the CPU only; use --device cpu"):
        line_up(str(fp32_bundle), [str(fp32_bundle)], config)


def test_cuda_graphs_want_a_gpu() -> None:
    with pytest.raises(ConfigError, match="--cuda-graphs with --device auto; use --device cuda"):
        BenchmarkConfig(cuda_graphs=True)


@pytest.mark.skipif(not this_machine().native_bf16, reason="this CPU has no bfloat16")
def test_checkpoints_are_measured_in_bf16_as_well(tiny_bert: Path, fp32_bundle: Path, successor: Path) -> None:
    found = line_up(str(tiny_bert), [str(fp32_bundle), str(successor)], BenchmarkConfig(bf16=True))
    assert [one.precision for one in found] == ["fp32"] * 3 + ["bf16"] * 2
    assert [one.role for one in found] == ["candidate"] * 3 + ["reference", "candidate"]
    assert found[4].name == "compressed (torch bf16)"
    assert len({one.name for one in found}) == 5
    with pytest.raises(ConfigError, match="--bf16 is for checkpoints, and 0 were given"):
        line_up(str(fp32_bundle), [str(fp32_bundle)], BenchmarkConfig(bf16=True))


def test_bf16_is_refused_where_it_is_imitated(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Machine("an old CPU", ("avx2",), 2)
    monkeypatch.setattr("theseus_deploy.benchmark.contender.this_machine", lambda: old)
    with pytest.raises(ConfigError, match=r"--bf16, but an old CPU \(avx2\) only imitates it, slower than fp32"):
        line_up(str(tiny_bert), [str(tiny_bert)], BenchmarkConfig(bf16=True))


def lacking(baseline: Path, *candidates: Path, config: BenchmarkConfig = AUTO) -> int | None:
    return missing_reference(line_up(str(baseline), list(map(str, candidates)), config), config)


def test_a_reference_is_the_baseline_beside_bundles(
    tiny_bert: Path, fp32_bundle: Path, int8_bundle: Path, successor: Path, tmp_path: Path
) -> None:
    assert lacking(tiny_bert, int8_bundle)
    assert lacking(tiny_bert, int8_bundle, fp32_bundle) is None
    assert lacking(tiny_bert, changed(fp32_bundle, tmp_path, "parent", sha256="0" * 64))
    assert lacking(tiny_bert, successor) is None
    assert lacking(fp32_bundle, int8_bundle) is None
    assert lacking(tiny_bert, int8_bundle, config=BenchmarkConfig(reference=False)) is None
    found = line_up(str(tiny_bert), [str(int8_bundle)], AUTO, [str(fp32_bundle)])
    assert [one.role for one in found] == ["candidate", "candidate", "reference"]


def test_a_reference_is_cut_where_the_bundles_are(tiny_bert: Path, int8_bundle: Path, tmp_path: Path) -> None:
    assert lacking(tiny_bert, changed(int8_bundle, tmp_path, "task", max_length=16)) == 16


@pytest.mark.thorough
def test_a_checkpoint_that_does_not_say_where_it_was_cut_goes_along(
    save_model: Callable[..., Path], tmp_path: Path
) -> None:
    foreign = save_model(make_bert(layers=1, positions=300), "foreign")
    long = export_checkpoint(str(foreign), tmp_path / "long", ExportConfig(max_length=256)).path
    assert [one.task.max_length for one in line_up(str(foreign), [str(long)], AUTO)] == [256, 256]
    assert [one.task.max_length for one in line_up(str(foreign), [str(foreign)], AUTO)] == [128, 128]
    longer = changed(long, tmp_path, "task", max_length=301)
    with pytest.raises(ConfigError, match=r"301 truncates at 301 tokens, .*foreign\d at 300; compare"):
        line_up(str(foreign), [str(longer)], AUTO)


def test_weights_in_two_forms_count_once(tiny_bert: Path, tmp_path: Path) -> None:
    twice = shutil.copytree(tiny_bert, tmp_path / "twice")
    torch.save({}, twice / "pytorch_model.bin")
    torch.save({}, twice / "training_args.bin")
    shutil.copy(tiny_bert / "model.safetensors", twice / "model.fp16.safetensors")
    once, both = line_up(str(tiny_bert), [str(twice)], AUTO)
    assert once.bytes == both.bytes
    (twice / "model.safetensors").rename(twice / "part_a.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(make_bert().state_dict(), "part_a.safetensors")}
    (twice / "model.safetensors.index.json").write_text(json.dumps(index))
    assert line_up(str(tiny_bert), [str(twice)], AUTO)[1].bytes == once.bytes
    (twice / "model.safetensors.index.json").unlink()
    torch.save(make_bert().state_dict(), twice / "pytorch_model.bin")
    assert line_up(str(tiny_bert), [str(twice)], AUTO)[1].bytes == (twice / "pytorch_model.bin").stat().st_size


def test_an_int8_bundle_from_another_kind_of_cpu_is_told(int8_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(int8_bundle, tmp_path / "moved")
    manifest = json.loads((folder / "theseus.json").read_text())
    manifest["machine"] |= {"isa": ["avx2"] if this_machine().native_int8 else ["avx512_vnni"]}
    (folder / "theseus.json").write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match="moved was quantised on"):
        _, here, moved = line_up(str(int8_bundle), [str(int8_bundle), str(folder)], BenchmarkConfig())
    assert here.remark == ""
    assert moved.remark.endswith("export it again on a CPU like this one")


def test_names_are_short_and_differ(tiny_bert: Path, tmp_path: Path) -> None:
    for parent in ("old", "new"):
        shutil.copytree(tiny_bert, tmp_path / parent / "successor")
    old, new = (str(tmp_path / parent / "successor") for parent in ("old", "new"))
    lone = shutil.copytree(tiny_bert, tmp_path / "alone")
    found = line_up(str(lone), [old, new, old, f"{lone}/"], AUTO)
    assert [one.name for one in found] == [
        "alone (torch)",
        "old/successor (torch)",
        "new/successor (torch)",
        "old/successor (torch) #2",
        "alone (torch) #2",
    ]


def test_another_set_of_labels_is_refused(tiny_bert: Path, save_model: Callable[..., Path]) -> None:
    other = save_model(make_bert(labels=3), "other")
    with pytest.raises(ConfigError, match=r"answers with 3 labels \(class0, .* with 2 labels \(negative, positive\)"):
        line_up(str(tiny_bert), [str(other)], AUTO)


def test_a_sequence_beyond_the_positions_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(ConfigError, match="--sequence 65 is more than the 64 positions"):
        line_up(str(tiny_bert), [str(tiny_bert)], BenchmarkConfig(sequence=(16, 65)))


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["checkpoint", "bundle"])
def test_positions_behind_the_padding_are_no_room_for_tokens(family: Callable[[str, str], Path], folder: str) -> None:
    ref = str(family("roberta", "single-label") / folder)
    assert [one.positions for one in line_up(ref, [ref], BenchmarkConfig(sequence=(62,)))] == [62, 62]
    with pytest.raises(ConfigError, match="--sequence 63 is more than the 62 positions"):
        line_up(ref, [ref], BenchmarkConfig(sequence=(63,)))


def test_the_same_labels_under_another_head_are_refused(save_model: Callable[..., Path], tiny_bert: Path) -> None:
    model = make_bert(layers=1)
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(ConfigError, match=r"\(multi-label\) answers with 2 labels .* \(single-label\) with 2"):
        line_up(str(tiny_bert), [str(save_model(model, "many"))], AUTO)


def test_a_checkpoint_truncates_where_a_shorter_bundle_does(
    fp32_bundle: Path, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    short = changed(fp32_bundle, tmp_path, "task", max_length=16)
    checkpoint = str(save_model(make_bert(layers=2), "long"))
    assert {one.task.max_length for one in line_up(checkpoint, [str(short)], AUTO)} == {16}
    with pytest.raises(ConfigError, match=r"truncates at 64 tokens, .* at 16; compare models of one --max-length"):
        line_up(checkpoint, [str(short), str(fp32_bundle)], AUTO)


def test_folders_that_are_no_candidates_are_refused(tiny_bert: Path, fp32_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 candidates"):
        line_up(str(tiny_bert), [], AUTO)
    with pytest.raises(ModelError, match="does not exist"):
        line_up(str(tiny_bert), [str(tmp_path / "nothing")], AUTO)
    damaged = shutil.copytree(fp32_bundle, tmp_path / "damaged")
    with (damaged / "model.onnx").open("r+b") as file:
        file.write(b"rubbish")
    with pytest.raises(ArtifactError, match=r"is damaged: model\.onnx was changed"):
        line_up(str(tiny_bert), [str(damaged)], AUTO)


def test_models_of_the_hub_are_told_apart_by_their_ids(tiny_bert: Path, tmp_path: Path) -> None:
    [one, _] = line_up(str(tiny_bert), [str(tiny_bert)], AUTO)
    found = [
        replace(one, name="sst2", ref=ref, path=tmp_path / ref.replace("/", "--") / "snapshots" / commit)
        for ref, commit in (("alice/sst2", "5f3c"), ("bob/sst2", "e81b"))
    ]
    assert [named.name for named in with_names(found)] == ["alice/sst2 (torch)", "bob/sst2 (torch)"]
