"""A candidate behind one small protocol: inputs become arrays, arrays become logits. The runtimes are a table.

All of them tokenise alike: truncated at the same length, padded to the longest of the batch. Where words are tagged
an input is its words, as the data divides them: a string would be divided by the tokenizer, and then other words would
be timed than those that are scored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.benchmark.cuda import CudaGraph, check_gpu
from theseus_deploy.errors import ConfigError, ModelError, brief
from theseus_deploy.words import Words

Texts = Sequence[tuple[str, ...]]
Encoded = Mapping[str, NDArray[np.int64]]
Logits = NDArray[np.float32]
FolderKind = Literal["checkpoint", "bundle"]
BF16 = "bf16"


class Session(Protocol):
    """A loaded candidate; `parameters` is None where only the manifest knows their number."""

    parameters: int | None

    def encode(self, texts: Texts) -> Encoded:
        """Tokenise inputs: arrays of shape (texts, longest of them in tokens)."""

    def run(self, encoded: Encoded) -> Logits:
        """Return what the model alone gives: (texts, labels), or (texts, sequence, labels) where words are tagged.

        The numbers are there, not promised, when this returns.
        """

    def answer(self, texts: Texts) -> list[Logits]:
        """Return logits of shape (items, labels) for each input of one batch: what production asks for."""


class TorchSession:
    """A checkpoint in PyTorch: fp32 or bf16, inference mode, the attention kernel that transformers chooses (SDPA)."""

    def __init__(
        self, path: str, ref: str, max_length: int, threads: int, device: str, precision: str = "fp32", **_: Any
    ) -> None:
        import torch

        from theseus_deploy.execution import torch_device
        from theseus_deploy.models.checkpoint import Checkpoint

        torch.set_num_threads(threads)
        checkpoint = Checkpoint(ref, Path(path), artifact=None)  # the parent has checked the files' hashes
        self._device = torch_device(device)
        model: Any = checkpoint.trained()
        self._model = model.eval().to(self._device, torch.bfloat16 if precision == BF16 else None)
        task = checkpoint.task
        self._words = task.tags_words
        self._tokenizer = checkpoint.tokenizer(task)
        self._max_length = max_length
        self.parameters: int | None = sum(weight.numel() for weight in self._model.parameters())

    def encode(self, texts: Texts) -> Encoded:
        """Tokenise with the checkpoint's own fast tokenizer."""
        return dict(self._tokenise(texts))

    def run(self, encoded: Encoded) -> Logits:
        """Run the model; copying the logits to the host waits for a GPU."""
        import torch

        with torch.inference_mode():
            inputs = {name: torch.from_numpy(values).to(self._device) for name, values in encoded.items()}
            logits: Logits = self._model(**inputs).logits.float().cpu().numpy()
        return logits

    def answer(self, texts: Texts) -> list[Logits]:
        """Tokenise and run, and pick the words' logits as the predictor does."""
        encoded = self._tokenise(texts)
        logits = self.run(dict(encoded))
        if not self._words:
            return list(logits[:, None])
        rows = zip(texts, logits, encoded.encodings, strict=True)
        return [Words.listed(words).pick(tokens, encoding) for words, tokens, encoding in rows]

    def _tokenise(self, texts: Texts) -> Any:
        rows = [list(words) for words in texts]
        return self._tokenizer(
            *([rows] if self._words else map(list, zip(*rows, strict=True))),
            is_split_into_words=self._words, truncation=True, max_length=self._max_length,
            padding="longest", return_tensors="np",
        )  # fmt: skip


class BundleSession:
    """A bundle as production answers with it, in ONNX Runtime, on a GPU or not, or in what `load_graph` opens."""

    parameters: int | None = None

    def __init__(
        self,
        path: str,
        threads: int,
        load_graph: Callable[[Path, int], Any] | None = None,
        device: str = "cpu",
        cuda_graphs: bool = False,
        **_: Any,
    ) -> None:
        from theseus_deploy.predictor import Predictor

        if device == "cuda":
            load_graph = partial(CudaGraph, capture=cuda_graphs)
        self._predictor = Predictor(path, threads, load=load_graph)

    def encode(self, texts: Texts) -> Encoded:
        """Tokenise as the predictor does."""
        return self._predictor.encode(texts)

    def run(self, encoded: Encoded) -> Logits:
        """Run the graph."""
        return self._predictor.run(encoded)

    def answer(self, texts: Texts) -> list[Logits]:
        """Answer as the predictor does."""
        return self._predictor.answer(texts)


class OpenVinoGraph:
    """A graph in OpenVINO that looks like onnxruntime's session; fp32 stays fp32 where the CPU would offer bf16."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            self._compiled = openvino.Core().compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            raise ModelError(f"{path} cannot be run by OpenVINO ({brief(error)}); use --runtime onnxruntime") from error

    def get_inputs(self) -> list[SimpleNamespace]:
        """Return the graph's inputs."""
        return [SimpleNamespace(name=node.get_any_name()) for node in self._compiled.inputs]

    def get_outputs(self) -> list[SimpleNamespace]:
        """Return the graph's outputs; of their shape, the last dimension alone is asked for."""
        return [
            SimpleNamespace(name=node.get_any_name(), shape=[node.partial_shape[-1].get_length()])
            for node in self._compiled.outputs
        ]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Any]) -> list[Logits]:
        """Return the outputs asked for; they are copies, for OpenVINO writes the next answer into the same memory."""
        answer = self._compiled(dict(inputs))
        return [np.array(answer[name]) for name in outputs]


def _check_torch() -> None:
    from theseus_deploy.execution import torch_device

    torch_device("cuda")


@dataclass(frozen=True)
class Runtime:
    """What a runtime takes, where it runs, the package it needs, what installs that, and how it loads a candidate.

    `check_gpu` refuses a GPU that the runtime cannot use.
    """

    kind: FolderKind
    devices: tuple[str, ...]
    package: str
    install: str
    load: Callable[..., Session]
    check_gpu: Callable[[], object] | None = None


RUNTIMES: dict[str, Runtime] = {
    "torch": Runtime("checkpoint", ("cpu", "cuda"), "torch", "torch", TorchSession, _check_torch),
    "onnxruntime": Runtime("bundle", ("cpu", "cuda"), "onnxruntime", "onnxruntime", BundleSession, check_gpu),
    "openvino": Runtime(
        "bundle", ("cpu",), "openvino", "theseus-deploy[openvino]", partial(BundleSession, load_graph=OpenVinoGraph)
    ),
}
DEFAULT: Mapping[FolderKind, str] = {"checkpoint": "torch", "bundle": "onnxruntime"}


def runtime_for(kind: FolderKind, asked: str, name: str, is_baseline: bool) -> str:
    """Choose the runtime of a candidate; a baseline that cannot follow the request keeps its own.

    Raises:
        ConfigError: the runtime asked for cannot run this kind of folder, or is not installed.
    """
    runtime = DEFAULT[kind] if asked == "auto" or (is_baseline and RUNTIMES[asked].kind != kind) else asked
    facts = RUNTIMES[runtime]
    if facts.kind != kind:
        raise ConfigError(
            f"--runtime {asked} cannot run {name}, which is a {kind}; give a {facts.kind}, or --runtime {DEFAULT[kind]}"
        )
    if find_spec(facts.package) is None:
        raise ConfigError(
            f"--runtime {runtime} needs the package {facts.package}; install it with `pip install '{facts.install}'`"
        )
    return runtime
