"""A graph in ONNX Runtime on a GPU. Written against its documentation and not run: no machine here has one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.errors import ConfigError, ModelError, brief
from theseus_deploy.machine import GPU_WHEEL

PROVIDER = "CUDAExecutionProvider"
NOT_CAPTURED = "-1"  # the graph id that onnxruntime neither captures nor replays
GRAPH_ID = "gpu_graph_id"


def check_gpu() -> None:
    """Refuse a GPU that onnxruntime cannot use.

    Raises:
        ConfigError: the onnxruntime that is installed has no CUDA.
    """
    import onnxruntime

    found = onnxruntime.get_available_providers()
    if PROVIDER not in found:
        raise ConfigError(
            f"--device cuda, but this onnxruntime has only {', '.join(found)}; use --device cpu, or `pip install "
            f"'theseus-deploy[gpu]'` and then `{GPU_WHEEL}`"
        )


class CudaGraph:
    """A graph that looks like onnxruntime's session: inputs and logits are bound to the GPU's memory.

    With `capture`, each shape is captured as a CUDA graph the first time and replayed from then on, out of buffers
    that stay where they are. Source: onnxruntime's documentation of I/O binding and of the CUDA execution provider.
    """

    def __init__(self, path: Path, threads: int, capture: bool = False) -> None:
        import onnxruntime

        check_gpu()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = [(PROVIDER, {"device_id": "0", "enable_cuda_graph": str(int(capture))}), "CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's dozen errors share no other base class
            raise ModelError(f"{path} cannot be loaded on a GPU ({brief(error)})") from error
        if self._session.get_providers()[0] != PROVIDER:  # it falls back without an error
            raise ModelError(
                f"{path} fell back to {self._session.get_providers()[0]}: onnxruntime cannot open the GPU; check its "
                "driver, CUDA and cuDNN, or use --device cpu"
            )
        self._capture = capture
        self._captured: dict[tuple[tuple[int, ...], ...], _Captured] = {}
        self.get_inputs = self._session.get_inputs
        self.get_outputs = self._session.get_outputs

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs asked for, copied to the host, which waits for the GPU."""
        if not self._capture:
            return _run(self._session, outputs, inputs)
        shapes = tuple(values.shape for values in inputs.values())
        if shapes not in self._captured:
            self._captured[shapes] = _Captured(self._session, outputs, inputs, len(self._captured))
        return self._captured[shapes].run(inputs)


class _Captured:
    """One shape's buffers on the GPU, and the graph that was captured over them."""

    def __init__(self, session: Any, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]], number: int) -> None:
        import onnxruntime

        self._session, self._options = session, onnxruntime.RunOptions()
        self._options.add_run_config_entry(GRAPH_ID, NOT_CAPTURED)
        shapes = [answer.shape for answer in _run(session, outputs, inputs, self._options)]
        self._options.add_run_config_entry(GRAPH_ID, str(number))
        self._binding = session.io_binding()
        self._inputs = {name: _on_gpu(values) for name, values in inputs.items()}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, shape in zip(outputs, shapes, strict=True):
            buffer = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cuda", 0)
            self._binding.bind_ortvalue_output(name, buffer)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Copy the inputs into their buffers and replay."""
        for name, values in inputs.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(values))
        return _replay(self._session, self._binding, self._options)


def _run(
    session: Any, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]], options: Any = None
) -> list[NDArray[Any]]:
    binding = session.io_binding()
    for name, values in inputs.items():
        binding.bind_ortvalue_input(name, _on_gpu(values))
    for name in outputs:
        binding.bind_output(name, "cuda", 0)
    return _replay(session, binding, options)


def _replay(session: Any, binding: Any, options: Any) -> list[NDArray[Any]]:
    binding.synchronize_inputs()
    session.run_with_iobinding(binding, options)
    binding.synchronize_outputs()
    answers: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
    return answers


def _on_gpu(values: NDArray[Any]) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values), "cuda", 0)
