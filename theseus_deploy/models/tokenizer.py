"""A model's tokenizer: loaded if production can run it, and written so that others can."""

import json
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from theseus_deploy.disk import OS_ERROR, as_disk_error
from theseus_deploy.errors import ModelError, brief
from theseus_deploy.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def load_tokenizer(
    ref: str, path: Path, config: "PretrainedConfig", task: Task | None = None
) -> "PreTrainedTokenizerBase":
    """Load the fast tokenizer; for a task that tags words, one that takes each of a list as if a space led it.

    Raises:
        ModelError: there is none, only a slow one, which production could not run, or another model's.
    """
    from transformers import AutoTokenizer

    words = task is not None and task.tags_words
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **({"add_prefix_space": True} if words else {}))
    except Exception as error:  # transformers has no error of its own: what it raises depends on the damage
        raise ModelError(
            f"{ref} has no tokenizer that can be loaded ({brief(error)}); add its tokenizer.json"
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(f"{ref} has only a slow tokenizer; add a tokenizer.json to the folder")
    names = tokenizer.vocab_files_names.values()
    if not any((path / name).is_file() for name in names):  # transformers makes an empty one up
        raise ModelError(f"{ref} has no tokenizer; add its {' or '.join(sorted(names))}")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{ref} has a tokenizer without a padding token; name one in tokenizer_config.json")
    if len(tokenizer) > getattr(config, "vocab_size", inf):
        raise ModelError(
            f"{ref} has a tokenizer of {len(tokenizer)} tokens, and the model knows {config.vocab_size}; "
            "add the tokenizer that it was trained with"
        )
    if words and hasattr(split := tokenizer.backend_tokenizer.pre_tokenizer, "add_prefix_space"):
        split.add_prefix_space = True  # a tokenizer of no class of its own (ModernBERT's) does not take the keyword
    segments = getattr(config, "type_vocab_size", 0)
    if segments and task and len(task.text) > 1 and max(tokenizer("a", "b").get("token_type_ids", [0])) >= segments:
        raise ModelError(
            f"{ref} has a type_vocab_size of {segments}, and its tokenizer marks the second text of a pair; "
            'write "model_input_names": ["input_ids", "attention_mask"] into its tokenizer_config.json'
        )
    return tokenizer


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
