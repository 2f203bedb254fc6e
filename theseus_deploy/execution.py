"""How torch runs a model: on which device and, for a while, with which threads, mode and attention, and how quietly."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from theseus_deploy.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def torch_device(asked: str) -> "torch.device":
    """Resolve `auto`, `cpu` or `cuda`.

    Raises:
        ModelError: a GPU was asked for, and there is none.
    """
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "--device cuda, but torch sees no GPU here; use --device cpu, or install a CUDA build of torch"
        )
    return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def evaluating(model: "PreTrainedModel") -> Iterator[None]:
    """Keep a model in evaluation mode for a while."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def eager_attention(model: "PreTrainedModel") -> Iterator[None]:
    """Compute attention as plain products for a while.

    In a graph that is a quarter fewer nodes than `sdpa`, whose guards against NaN cost time. In training on a CPU,
    `sdpa` with dropout is computed that way too, guards and all, and eager takes less time.
    """
    configs = {id(config): config for part in model.modules() if (config := getattr(part, "config", None))}
    before = [(config, config._attn_implementation) for config in configs.values()]
    for config, _ in before:
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing bars and reports to stderr: what is missing or damaged, we say."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
