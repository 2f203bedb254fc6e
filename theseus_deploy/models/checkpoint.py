"""A model's folder: refused where it cannot be used, before any time is spent on it; loaded and written."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.artifact import Artifact, Parent, fingerprint
from theseus_deploy.disk import as_disk_error
from theseus_deploy.errors import ModelError, brief
from theseus_deploy.execution import quiet
from theseus_deploy.models.find import is_name, locate
from theseus_deploy.models.tokenizer import load_tokenizer, write_tokenizer
from theseus_deploy.models.weights import load_fresh, load_trained
from theseus_deploy.tasks import KINDS, Task
from theseus_deploy.workspace import SUFFIX, unfinished

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_MAX_LENGTH = 128
# These families count positions from behind the padding token's id: roberta-base has 514, and takes 512 tokens.
OFFSET_POSITIONS = ("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet",
                    "data2vec-text", "ibert", "longformer", "luke")  # fmt: skip


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
                f"{self.ref} has no config.json that transformers reads ({brief(error)}); correct it"
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
        said = getattr(self.config, "max_position_embeddings", None) or 0
        limit = said if said > 0 else inf  # XLNet says -1
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
        """Load the tokenizer, for `task` if that is known (`load_tokenizer`)."""
        return load_tokenizer(self.ref, self.path, self.config, task)

    def fresh(self, task: Task, seed: int) -> "PreTrainedModel":
        """Load the encoder under a head for `task` (`load_fresh`)."""
        return load_fresh(self.ref, self.path, task, seed)

    def trained(self) -> "PreTrainedModel":
        """Load the model with the head it was trained with (`load_trained`)."""
        return load_trained(self.ref, self.path, self.task)

    def check_trained(self) -> None:
        """Refuse what `trained` refuses, and of safetensors read no more than names and shapes.

        Raises:
            ModelError: as `trained`.
        """
        load_trained(self.ref, self.path, self.task, device_map="meta")


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
    path = locate(ref)
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


def _origin(artifact: Artifact) -> str:
    return f", {artifact.manifest.parent.path}" if artifact.manifest.parent else ""
