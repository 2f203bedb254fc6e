"""A tiny model and a tiny corpus, made here, so that every test walks the true pipeline, offline and in seconds."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models are slower on two threads; before torch is loaded

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from tests.families import save_tiny
from theseus_deploy.artifact import Artifact, Manifest, Parent, fingerprint
from theseus_deploy.compress.stage import compress_checkpoint
from theseus_deploy.configs import CompressConfig, ExportConfig, Quantize
from theseus_deploy.distributed import ALONE, World
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.lesson import Lesson
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task

GOOD = ["good", "great", "lovely", "fine", "superb"]
BAD = ["bad", "awful", "poor", "dreadful", "sad"]
FILLER = ["the", "film", "was", "and", "plot", "actor", "scene", "a", "very", "it", "in", "story", "end", "long"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TASK = Task("single-label", ("negative", "positive"), ("text",), "label", 32)


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the developer's own cache out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THESEUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over the words the corpus uses."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *GOOD, *BAD, *FILLER])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def make_bert(
    layers: int = 4, labels: int = 2, dropout: float = 0.1, spread: float = 0.2, positions: int = 64
) -> BertForSequenceClassification:
    """A BERT of random weights, 32 wide, whose head has been 'trained' in that it is saved with it."""
    torch.manual_seed(layers)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=len(SPECIAL) + len(GOOD) + len(BAD) + len(FILLER),
            hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=positions, num_labels=labels, hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout, initializer_range=spread,
            id2label={0: "negative", 1: "positive"} if labels == 2 else {i: f"class{i}" for i in range(labels)},
        )
    )  # fmt: skip


def make_rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Sentences of mixed length whose label follows from one word."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        label = draw.choice(["negative", "positive"])
        words = draw.choices(FILLER, k=draw.randint(1, 25))
        words.insert(draw.randrange(len(words) + 1), draw.choice(GOOD if label == "positive" else BAD))
        rows.append((" ".join(words), label))
    return rows


def make_lesson(train_rows: int, validation_rows: int, world: World = ALONE) -> Lesson:
    """What is learned from such sentences, in tokens."""

    def split(name: str, count: int, seed: int) -> Split:
        texts, labels = zip(*make_rows(count, seed), strict=True)
        return Split(name, [(text,) for text in texts], list(labels))

    train_split, validation = split("train", train_rows, 0), split("validation", validation_rows, 1)
    return Lesson.prepare(train_split, validation, TASK, make_tokenizer(), "made here", world)


def write_csv(path: Path, rows: list[tuple[str, str]], header: str = "text,label") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", "utf-8")
    return path


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes for a while."""
    resource = pytest.importorskip("resource", reason="only Unix limits file sizes")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a csv of a given header and rows and return its name."""

    def write(header: str, *rows: str, name: str = "data.csv") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows, ""]), "utf-8")
        return str(path)

    return write


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv (256 rows), validation.csv (64) and test.csv (96)."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed, (split, count) in enumerate([("train", 256), ("validation", 64), ("test", 96)]):
        write_csv(folder / f"{split}.csv", make_rows(count, seed))
    return folder


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    """A lesson of 96 rows to learn from and 32 to be chosen by."""
    return make_lesson(96, 32)


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save a model with the tiny tokenizer as a Hugging Face folder, and return the folder."""

    def save(model: torch.nn.Module, name: str = "model") -> Path:
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def tiny_bert(save_model: Callable[..., Path]) -> Path:
    """A folder with a four-layer BERT, two labels: a stand-in for a fine-tuned predecessor."""
    return save_model(make_bert(), "predecessor")


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of a good model folder, to be damaged."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


@pytest.fixture(scope="session")
def encoder_only(save_model: Callable[..., Path]) -> Path:
    """A folder with a pretrained encoder that has no head for any task yet."""
    return save_model(make_bert().bert, "encoder")


@pytest.fixture(scope="session")
def fp32_bundle(tiny_bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 ONNX bundle of `tiny_bert`, checked on `corpus`."""
    return export_bundle(tiny_bert, corpus, tmp_path_factory.mktemp("bundles") / "fp32", "none")


@pytest.fixture(scope="session")
def int8_bundle(tiny_bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 ONNX bundle of `tiny_bert`, checked on `corpus`."""
    return export_bundle(tiny_bert, corpus, tmp_path_factory.mktemp("bundles") / "int8", "dynamic")


@pytest.fixture(scope="session")
def successor(tiny_bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a short true compression makes of `tiny_bert`: a checkpoint with a manifest, two layers, two labels."""
    config = CompressConfig(max_steps=4, batch_size=8, replace_until=0.3, lr=1e-3, precision="fp32", threads=1)
    out = tmp_path_factory.mktemp("successors") / "compressed"
    return compress_checkpoint(str(tiny_bert), str(corpus), out, config).path


@pytest.fixture(scope="session")
def successor_bundle(successor: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 ONNX bundle of `successor`, checked on `corpus`."""
    return export_bundle(successor, corpus, tmp_path_factory.mktemp("bundles") / "successor", "dynamic")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 300 pairs of texts, each with a number."""
    draw = random.Random(7)
    rows = [
        (*(" ".join(draw.choices([*FILLER, *GOOD], k=draw.randint(1, 20))) for _ in range(2)), str(draw.random()))
        for _ in range(300)
    ]
    return write_csv(tmp_path_factory.mktemp("pairs") / "pairs.csv", rows, "first,second,similarity")


@pytest.fixture(scope="session")
def pair_successor(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a manifest, as compress writes it: two layers, and a number as the answer to a pair."""
    model, out = make_bert(layers=2, labels=1), tmp_path_factory.mktemp("successors") / "pairs"
    with Artifact.writing(out) as draft:
        model.save_pretrained(draft.path)
        make_tokenizer().save_pretrained(draft.path)
        draft.finish(
            Manifest(
                kind="checkpoint",
                stage="compress",
                config={},
                parent=Parent(str(tiny_bert), fingerprint(tiny_bert)),
                data=None,
                task=Task("regression", (), ("first", "second"), "similarity", max_length=24),
                parameters=model.num_parameters(),
                layers=2,
                module_map=[[0, 1], [2, 3]],
                scores={"validation": {"pearson": 0.5}},
            )
        )
    return out


@pytest.fixture(scope="session")
def pair_bundle(pair_successor: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 ONNX bundle of `pair_successor`, checked on `pairs`."""
    return export_bundle(pair_successor, pairs, tmp_path_factory.mktemp("bundles") / "pairs", "none")


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Make, once, a folder with a tiny `checkpoint` of a family and a kind of task, and its fp32 `bundle`."""
    made: dict[tuple[str, str], Path] = {}

    def make(name: str, kind: str) -> Path:
        if (name, kind) not in made:
            folder = tmp_path_factory.mktemp(f"{name}-{kind}")
            save_tiny(name, kind, folder / "checkpoint")
            export_checkpoint(str(folder / "checkpoint"), folder / "bundle", ExportConfig(threads=1))
            made[name, kind] = folder
        return made[name, kind]

    return make


def export_bundle(checkpoint: Path, data: Path, out: Path, quantize: Quantize) -> Path:
    config = ExportConfig(quantize=quantize, threads=1)
    return export_checkpoint(str(checkpoint), out, config, data=str(data)).path
