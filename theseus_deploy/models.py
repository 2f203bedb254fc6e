"""A model's folder: find it by name, refuse what cannot be used before any time is spent on it, load and write it."""

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy import builtin
from theseus_deploy.artifact import MANIFEST, Artifact, Parent, fingerprint
from theseus_deploy.errors import ArtifactError, ModelError, suggest
from theseus_deploy.execution import quiet
from theseus_deploy.tasks import KINDS, Task
from theseus_deploy.workspace import SUFFIX, unfinished

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_MAX_LENGTH = 128
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
OLD_WEIGHTS = "pytorch_model*.bin"  # fetched where there are no others
# These families count positions from behind the padding token's id: roberta-base has 514, and takes 512 tokens.
OFFSET_POSITIONS = ("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet",
                    "data2vec-text", "ibert", "longformer", "luke")  # fmt: skip

OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how Rust ends the message of an I/O error
# Names of weights in a model whose modules are still being replaced: ours, and the original BERT-of-Theseus'.
ASSEMBLED = (".predecessor.", ".successor.", ".scc_layer.")
LAYER = re.compile(r"((encoder|transformer)\.)?layers?\.\d+\.")  # how the name of a layer's weight begins
BUFFERS = ("position_ids", "inv_freq")  # of older checkpoints, which a model computes by itself


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face model folder: `ref` is what the user named, `path` where it lies on this disk."""

    ref: str
    path: Path
    artifact: Artifact | None

    @cached_property
    def config(self) -> "PretrainedConfig":
        """Return the model's configuration.

        Raises:
            ModelError: transformers cannot read it.
        """
        from transformers import AutoConfig

        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(self.path)
        except Exception as error:  # transformers has no error of its own: what it raises depends on the damage
            raise ModelError(
                f"{self.ref} has no config.json that transformers reads ({_brief(error)}); correct it"
            ) from error
        return config

    @cached_property
    def parent(self) -> Parent:
        """Name this checkpoint as what the next folder is made from, by a path that says something elsewhere too."""
        ref = self.ref if is_name(self.ref) else str(self.path.resolve())
        return Parent(ref, fingerprint(self.path))

    def keep_from(self, out: Path) -> None:
        """Refuse to write over this checkpoint, or into it, which would change what its manifest and its hash say.

        Raises:
            ModelError: `out` is its folder, or lies in it.
        """
        if out.resolve().is_relative_to(self.path.resolve()):
            where = "is" if out.resolve() == self.path.resolve() else "lies in"
            raise ModelError(f"{out} {where} the folder of {self.ref}, which is only read; choose another --out")

    @property
    def task(self) -> Task:
        """Return what this model was trained to do: from our manifest, else from its configuration.

        Raises:
            ModelError: it was trained to do something else.
        """
        if self.artifact:
            return self.artifact.manifest.task
        kind = self._kind()
        names: Mapping[Any, Any] = {} if kind == "regression" else self.config.id2label or {}
        if None in names.values():
            raise ModelError(f"{self.ref} has a label without a name (null in id2label of its config.json); name it")
        if sorted(names) != list(range(len(names))):
            raise ModelError(
                f"{self.ref} numbers its labels {', '.join(map(str, sorted(names)))} (id2label of its config.json), "
                "and outputs are counted from 0; correct it"
            )
        if kind != "regression" and len(names) < 2:
            raise ModelError(
                f"{self.ref} has one label ({', '.join(map(str, names.values()))}) and is no regression; give a model "
                "with two, yes and no for instance"
            )
        labels = tuple(str(name) for _, name in sorted(names.items()))  # some are numbers: the stars of a review
        return Task(kind, labels, (), "", self.longest(None))

    def _kind(self) -> str:
        if any(name.endswith("ForTokenClassification") for name in self.config.architectures or ()):
            return "tokens"
        problem_type = self.config.problem_type
        if problem_type == "regression" and self.config.num_labels != 1:
            raise ModelError(f"{self.ref} is a regression with {self.config.num_labels} outputs; give a model with one")
        if problem_type is None:
            return "regression" if self.config.num_labels == 1 else "single-label"
        kinds = {kind.problem_type: name for name, kind in KINDS.items() if kind.problem_type}
        if problem_type not in kinds:
            *others, last = kinds
            raise ModelError(
                f"{self.ref} was trained for {problem_type}; give a model for {', '.join(others)} or {last}"
            )
        return kinds[problem_type]

    @property
    def positions(self) -> float:
        """Count the tokens of the longest input that the model takes; infinite where nothing limits it."""
        limit: float = getattr(self.config, "max_position_embeddings", None) or inf
        if self.config.model_type in OFFSET_POSITIONS and self.config.pad_token_id is None:
            raise ModelError(f"{self.ref} has no pad_token_id in its config.json, which counts its positions; add it")
        return limit - self.config.pad_token_id - 1 if self.config.model_type in OFFSET_POSITIONS else limit

    def longest(self, asked: int | None) -> int:
        """Return the longest input in tokens: as asked, else as trained, else 128; never more than the model takes.

        Raises:
            ModelError: more was asked than the model has positions.
        """
        limit = self.positions
        if asked is not None and asked > limit:
            raise ModelError(f"--max-length {asked} is more than the {limit} positions of {self.ref}; lower it")
        if asked is None and self.artifact:
            return self.artifact.manifest.task.max_length
        return asked or int(min(limit, DEFAULT_MAX_LENGTH))

    def tokenizer(self, task: Task | None = None) -> "PreTrainedTokenizerBase":
        """Load the fast tokenizer; for a task that tags words, one that takes each of a list as if a space led it.

        Raises:
            ModelError: there is none, only a slow one, which production could not run, or another model's.
        """
        from transformers import AutoTokenizer

        words = task is not None and task.tags_words
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, **({"add_prefix_space": True} if words else {}))
        except Exception as error:  # as above
            raise ModelError(
                f"{self.ref} has no tokenizer that can be loaded ({_brief(error)}); add its tokenizer.json"
            ) from error
        if not tokenizer.is_fast:
            raise ModelError(f"{self.ref} has only a slow tokenizer; add a tokenizer.json to the folder")
        names = tokenizer.vocab_files_names.values()
        if not any((self.path / name).is_file() for name in names):  # transformers makes an empty one up
            raise ModelError(f"{self.ref} has no tokenizer; add its {' or '.join(sorted(names))}")
        if tokenizer.pad_token_id is None:
            raise ModelError(f"{self.ref} has a tokenizer without a padding token; name one in tokenizer_config.json")
        if len(tokenizer) > getattr(self.config, "vocab_size", inf):
            raise ModelError(
                f"{self.ref} has a tokenizer of {len(tokenizer)} tokens, and the model knows {self.config.vocab_size}; "
                "add the tokenizer that it was trained with"
            )
        if words and hasattr(split := tokenizer.backend_tokenizer.pre_tokenizer, "add_prefix_space"):
            split.add_prefix_space = True  # a tokenizer of no class of its own (ModernBERT's) does not take the keyword
        segments = getattr(self.config, "type_vocab_size", 0)
        if segments and task and len(task.text) > 1 and max(tokenizer("a", "b").get("token_type_ids", [0])) >= segments:
            raise ModelError(
                f"{self.ref} has a type_vocab_size of {segments}, and its tokenizer marks the second text of a pair; "
                'write "model_input_names": ["input_ids", "attention_mask"] into its tokenizer_config.json'
            )
        return tokenizer

    def fresh(self, task: Task, seed: int) -> "PreTrainedModel":
        """Load the encoder under a head for `task`, drawn from `seed` where the folder has none of that shape.

        Raises:
            ModelError: the folder lacks weights of the encoder itself.
        """
        from transformers import set_seed

        set_seed(seed)
        model, *_ = self._load(
            task.facts.head, num_labels=task.outputs, problem_type=task.facts.problem_type, **_label_names(task)
        )
        return model

    def trained(self) -> "PreTrainedModel":
        """Load the model with the head it was trained with.

        Raises:
            ModelError: weights are missing from the folder, the head's for instance.
        """
        return self._trained()

    def check_trained(self) -> None:
        """Refuse what `trained` refuses, and read no more of the weights than their names and shapes.

        Raises:
            ModelError: as `trained`.
        """
        self._trained(device_map="meta")

    def _trained(self, **how: Any) -> "PreTrainedModel":
        model, missing, reshaped = self._load(self.task.facts.head, **how)
        if reshaped:
            name, (saved, expected) = min(reshaped.items())
            labels = model.config.num_labels
            if saved and [*expected] == [labels, *saved[1:]]:
                raise ModelError(
                    f"{self.ref} has a {name} of {saved[0]} outputs, and its config.json has {labels} labels; name as "
                    "many in its id2label"
                )
            raise ModelError(
                f"{self.ref} has a {name} of shape {[*saved]}, not {[*expected]} as its config.json says; fetch both"
            )
        if missing:
            raise ModelError(
                f"{self.ref} has no trained weights for {_first(missing)}; a predecessor must be fine-tuned on the "
                "task first: run `theseus finetune`"
            )
        return model

    def _load(
        self, head: str, **changes: Any
    ) -> tuple["PreTrainedModel", set[str], dict[str, tuple[Sequence[int], Sequence[int]]]]:
        """Load a model; return it with the head's weights that are missing, and the shapes of those of another one."""
        import torch
        import transformers
        from safetensors import SafetensorError

        try:
            with quiet():
                model, report = getattr(transformers, head).from_pretrained(
                    self.path, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **changes
                )
        except SafetensorError as error:
            raise ModelError(f"{self.ref} holds damaged weights ({_brief(error)}); fetch or train it again") from error
        except Exception as error:  # as above
            raise ModelError(
                f"{self.ref} is no text classifier that can be loaded ({_brief(error)}); give another model"
            ) from error
        if half := {name for name in report["unexpected_keys"] if any(part in name for part in ASSEMBLED)}:
            raise ModelError(
                f"{self.ref} is a model whose modules are still being replaced (it holds {_first(half)}); finish its "
                "schedule with `theseus compress`, and give the successor that it writes"
            )
        missing = set(report["missing_keys"])
        reshaped = {name: shapes for name, *shapes in report["mismatched_keys"]}
        encoder = {
            name
            for name in missing | reshaped.keys()
            if name.startswith(model.base_model_prefix + ".") and ".pooler." not in name
        }
        if encoder:
            raise ModelError(
                f"{self.ref} has no weights, or none of the shape in its config.json, for {_first(encoder)}; "
                "fetch or train it again"
            )
        if lost := {name for name in report["unexpected_keys"] if _is_of_a_layer(name, model.base_model_prefix)}:
            raise ModelError(
                f"{self.ref} has weights of layers that have no place in the model ({_first(lost)}); correct "
                "num_hidden_layers in its config.json if that is why, else give another model: relative positions and "
                "adapters that were not merged are not supported"
            )
        return model, missing, reshaped


def open_checkpoint(ref: str) -> Checkpoint:
    """Find a checkpoint: a local folder, a built-in model, or a Hub id, which is downloaded once.

    Raises:
        ModelError: there is no such model, its training is unfinished, or it is a bundle.
        ArtifactError: its files are not those its manifest names.
    """
    if waiting := unfinished(Path(ref)):
        raise ModelError(
            f"{ref} belongs to an unfinished training ({waiting}); repeat the command that began it, and give the "
            f"folder that it writes, {str(waiting).removesuffix(SUFFIX)}"
        )
    path = _locate(ref)
    artifact = Artifact.open(path) if Artifact.exists(path) else None
    if artifact and artifact.manifest.kind != "checkpoint":
        raise ModelError(
            f"{ref} is a {artifact.manifest.kind} ({artifact.manifest.precision}) for production, not a checkpoint; "
            f"give the checkpoint it was made from{_origin(artifact)}"
        )
    if artifact:
        artifact.require_unchanged(ref)
    if not (path / "config.json").is_file():
        raise ModelError(f"{ref} is no model folder: it holds no config.json; give one, or a Hub id")
    return Checkpoint(ref, path, artifact)


def is_name(ref: str) -> bool:
    """Tell whether a reference ends in a name, as `.` and `..` do not."""
    return Path(ref).name not in ("", "..")


def is_folder(path: Path) -> bool:
    """Tell whether a folder is here; one that may not be looked into, another user's, is not."""
    try:
        return path.is_dir()
    except PermissionError:
        return False


def find_here(ref: str) -> Path | None:
    """Find a model on this disk by the name it once had, and fetch nothing; None where it is not here."""
    if is_folder(Path(ref)):
        return Path(ref)
    if ref in builtin.MODELS:
        try:
            return builtin.MODELS[ref]()
        except ModelError:
            return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(ref, "config.json")
    except HFValidationError:  # it is a path
        return None
    return Path(config).parent if isinstance(config, str) else None


def save_checkpoint(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write an ordinary Hugging Face folder.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    from safetensors import SafetensorError

    try:
        with quiet():
            model.save_pretrained(folder)
    except SafetensorError as error:
        raise as_disk_error(error) from error
    tokenizer.backend_tokenizer.no_truncation()  # how it was last called is no part of it
    tokenizer.backend_tokenizer.no_padding()
    write_tokenizer(tokenizer, folder)


def write_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write the tokenizer's files, in words that transformers 4 reads too: optimum's ORTModel classes need it.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        if type(error) is Exception and OS_ERROR.search(str(error)):  # all that tokenizers raises
            raise as_disk_error(error) from error
        raise
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text("utf-8"))
    if content.get("tokenizer_class") == "TokenizersBackend":
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(content.get("extra_special_tokens"), list):  # version 4 expects a mapping there
        content["additional_special_tokens"] = content.pop("extra_special_tokens")
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def as_disk_error(error: Exception) -> OSError:
    """Turn the error of a library in Rust, which only its words tell apart, into the OSError it stands for."""
    number = OS_ERROR.search(str(error))
    code = int(number[1]) if number else errno.EACCES
    return OSError(code, os.strerror(code))


def _locate(ref: str) -> Path:
    if ref in builtin.MODELS:
        return builtin.MODELS[ref]()
    path = Path(ref)
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{ref} is a file, not a model folder; give the folder that holds config.json")
    if ref.startswith("demo:"):
        raise ModelError(f"{ref} is no built-in model; {suggest(ref, list(builtin.MODELS))}")
    if ref.startswith((".", "/", "~")) or ref.count("/") > 1:
        raise ModelError(f"{ref} does not exist; give a model folder or a Hub id")
    return _download(ref)


def _download(ref: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(ref, allow_patterns=HUB_FILES))
        if not any((path / name).exists() for name in WEIGHTS):
            path = Path(snapshot_download(ref, allow_patterns=[*HUB_FILES, OLD_WEIGHTS]))
        files = Artifact.open(path).files if Artifact.exists(path) else {}
        if any(not (path / name).is_file() for name in files):  # a checkpoint of ours is checked file by file
            path = Path(snapshot_download(ref, allow_patterns=[MANIFEST, *files]))
        return path
    except ArtifactError:
        raise
    except Exception as error:  # OSErrors, and those of whatever HTTP library is underneath
        raise ModelError(
            f"{ref} is no local folder, and the Hub could not give it ({_brief(error)}); "
            "check the name and the network, or give a folder"
        ) from error


def _label_names(task: Task) -> dict[str, Any]:
    if not task.labels:
        return {}
    return {"id2label": dict(enumerate(task.labels)), "label2id": {name: i for i, name in enumerate(task.labels)}}


def _is_of_a_layer(name: str, prefix: str) -> bool:
    """Tell whether a weight is of a layer of the encoder; its name begins with a prefix, or with what comes behind."""
    inside = name.removeprefix(f"{prefix}.")
    return bool(LAYER.match(inside)) and not inside.endswith(BUFFERS)


def _first(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _origin(artifact: Artifact) -> str:
    return f", {artifact.manifest.parent.path}" if artifact.manifest.parent else ""


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".:") or type(error).__name__
