"""A tiny random model of every family, under any head, with a tokenizer of the family's own kind, and rows for it."""

import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoConfig,
    BertTokenizer,
    CamembertTokenizer,
    DebertaTokenizer,
    DebertaV2Tokenizer,
    MPNetTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from theseus_deploy.tasks import KINDS

LABELS = {
    "single-label": ("negative", "neutral", "positive"),
    "multi-label": ("toxic", "obscene", "threat"),
    "tokens": ("O", "B-location", "I-location", "B-person", "I-person"),
    "regression": (),
}
SENTENCES = (
    "the Empire State Building stands in New York, and Anna Karenina lives near it.",
    "a very long film, and the plot was dreadful",
    "Zürich  Hauptbahnhof 😂 was lovely",
)
WORDS = ["the", "Empire", "State", "Building", "stands", "in", "New", "York", "Anna", "Karenina", "lives", "it", "😂"]
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BERT_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
PLAIN = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64, "initializer_range": 0.3, "pad_token_id": 1,
}  # fmt: skip
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0, "pad_token_id": 0}
V3 = {
    **RELATIVE, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "position_biased_input": False,
}  # fmt: skip
ALTERNATING = {  # local attention sees 4 tokens to either side, and inputs have up to 64
    "pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2,
    "num_hidden_layers": 2, "local_attention": 8, "global_attn_every_n_layers": 2,
}  # fmt: skip
BERT = {"pad_token_id": 0}
ROBERTA = {"type_vocab_size": 1}


def word_pieces() -> list[str]:
    words = {word.strip(",.").lower() for sentence in SENTENCES for word in sentence.split()}
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [*sorted(words), *",.?!", *letters, *(f"##{letter}" for letter in letters)]


def byte_pairs(special: tuple[str, ...]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    trainer = BpeTrainer(
        vocab_size=320, special_tokens=list(special), initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    model = tokenizer.to_str()
    merges = [tuple(pair) for pair in json.loads(model)["model"]["merges"]]
    return tokenizer.get_vocab(), merges


def unigrams(special: tuple[str, ...]) -> list[tuple[str, float]]:
    words = {f"▁{word.strip(',.')}" for sentence in SENTENCES for word in sentence.split()}
    letters = sorted({letter for sentence in SENTENCES for letter in sentence if letter != "😂"} | {"▁"})
    return [*((token, 0.0) for token in special), *((w, -3.0) for w in sorted(words)), *((c, -9.0) for c in letters)]


def bert() -> PreTrainedTokenizerBase:
    return BertTokenizer(vocab={token: index for index, token in enumerate([*BERT_SPECIAL, *word_pieces()])})


def distilbert() -> PreTrainedTokenizerBase:
    tokenizer = bert()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def mpnet() -> PreTrainedTokenizerBase:
    special = ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
    return MPNetTokenizer(vocab={token: index for index, token in enumerate([*special, *word_pieces()])})


def roberta() -> PreTrainedTokenizerBase:
    vocabulary, merges = byte_pairs(ROBERTA_SPECIAL)
    return RobertaTokenizer(vocab=vocabulary, merges=merges)


def xlm_roberta() -> PreTrainedTokenizerBase:
    return XLMRobertaTokenizer(vocab=unigrams(ROBERTA_SPECIAL))


def camembert() -> PreTrainedTokenizerBase:
    return CamembertTokenizer(vocab=unigrams(ROBERTA_SPECIAL), additional_special_tokens=[])


def deberta() -> PreTrainedTokenizerBase:
    vocabulary, merges = byte_pairs(BERT_SPECIAL)
    return DebertaTokenizer(vocab=vocabulary, merges=merges)


def deberta_v2() -> PreTrainedTokenizerBase:
    return DebertaV2Tokenizer(vocab=unigrams(BERT_SPECIAL))


def modernbert() -> PreTrainedTokenizerBase:
    vocabulary, merges = byte_pairs(BERT_SPECIAL)
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


FAMILIES = {
    "bert": (bert, BERT),
    "roberta": (roberta, ROBERTA),
    "xlm-roberta": (xlm_roberta, ROBERTA),
    "camembert": (camembert, ROBERTA),
    "electra": (bert, {**BERT, "embedding_size": 32}),
    "distilbert": (distilbert, {**BERT, "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64}),
    "mpnet": (mpnet, {}),
    "deberta": (deberta, RELATIVE),
    "deberta-v2": (deberta_v2, V3),
    "modernbert": (modernbert, ALTERNATING),
}


def save_tokenizer_of(family: str, folder: Path) -> Path:
    """Write a checkpoint without weights, to try its tokenizer."""
    make_tokenizer, different = FAMILIES[family]
    tokenizer = make_tokenizer()
    AutoConfig.for_model(family, **{**PLAIN, **different}, vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny(family: str, kind: str, folder: Path, layers: int | None = None) -> Path:
    """Write a checkpoint of random weights, as `theseus finetune` would leave it but for the manifest."""
    make_tokenizer, different = FAMILIES[family]
    tokenizer, labels = make_tokenizer(), LABELS[kind]
    depth = {name: layers for name in ("num_hidden_layers", "n_layers") if layers and name in {**PLAIN, **different}}
    config = AutoConfig.for_model(
        family, **{**PLAIN, **different, **depth}, vocab_size=len(tokenizer), problem_type=KINDS[kind].problem_type,
        **({"id2label": dict(enumerate(labels))} if labels else {"num_labels": 1}),
    )  # fmt: skip
    torch.manual_seed(3)
    model = getattr(transformers, KINDS[kind].head).from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(kind: str, path: Path) -> Path:
    """Rows under the labels of a kind of task, some without a word or a label, one that must be cut."""
    draw, labels, rows = random.Random(5), LABELS[kind], list[dict[str, Any]]()
    for row in range(60):
        words = draw.choices(WORDS, k=90 if row == 3 else draw.randint(0, 12))
        if kind == "tokens":
            rows.append({"tokens": words, "ner_tags": draw.choices(labels, k=len(words))})
        else:
            rows.append({"text": " ".join(words), "labels": draw.sample(labels, draw.randint(0, 3))})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path
