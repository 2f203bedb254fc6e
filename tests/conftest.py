"""A tiny model and a tiny corpus, made here, so that every test walks the true pipeline, offline and in seconds."""

import gc
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models are slower on two threads; before torch is loaded

import torch
from filelock import FileLock
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


@pytest.fixture(scope="module", autouse=True)
def what_lives_on_is_not_searched() -> None:
    """Take what is imported by now out of collections: each training begins with one, which took longer than it."""
    gc.collect()
    gc.freeze()


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with two files that need other bundles, so that neither process waits for what the other one exports."""
    first = ("benchmark/test_against.py", "export/test_families.py")
    items.sort(key=lambda item: not item.path.as_posix().endswith(first))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a file or a folder of a name once for all processes of the suite: an export takes seconds."""
    own = tmp_path_factory.getbasetemp()
    shared = (own if worker_id == "master" else own.parent) / "once"
    shared.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        made, path = shared / f"{name}.made", shared / name
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                make(path)
                made.touch()
        return path

    return once


@pytest.fixture(scope="session")
def corpus(once: Callable[..., Path]) -> Path:
    """A folder with train.csv (256 rows), validation.csv (64) and test.csv (96)."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for seed, (split, count) in enumerate([("train", 256), ("validation", 64), ("test", 96)]):
            write_csv(folder / f"{split}.csv", make_rows(count, seed))

    return once("corpus", make)


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    """A lesson of 96 rows to learn from and 32 to be chosen by."""
    return make_lesson(96, 32)


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save a model with the tiny tokenizer as a Hugging Face folder, and return the folder."""
    return lambda model, name="model": save(model, tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def tiny_bert(once: Callable[..., Path]) -> Path:
    """A folder with a four-layer BERT, two labels: a stand-in for a fine-tuned predecessor."""
    return once("predecessor", lambda folder: save(make_bert(), folder))


@pytest.fixture(scope="session")
def shallow_bert(once: Callable[..., Path]) -> Path:
    """A folder with a BERT of one layer, for what depends on no depth: its export takes half the time."""
    return once("shallow", lambda folder: save(make_bert(layers=1), folder))


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of a good model folder, to be damaged."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


@pytest.fixture(scope="session")
def encoder_only(save_model: Callable[..., Path]) -> Path:
    """A folder with a pretrained encoder that has no head for any task yet."""
    return save_model(make_bert().bert, "encoder")


@pytest.fixture(scope="session")
def fp32_bundle(tiny_bert: Path, corpus: Path, once: Callable[..., Path]) -> Path:
    """The fp32 ONNX bundle of `tiny_bert`, checked on `corpus`."""
    return once("fp32", lambda out: export_bundle(tiny_bert, corpus, out, "none"))


@pytest.fixture(scope="session")
def int8_bundle(tiny_bert: Path, corpus: Path, once: Callable[..., Path]) -> Path:
    """The int8 ONNX bundle of `tiny_bert`, checked on `corpus`."""
    return once("int8", lambda out: export_bundle(tiny_bert, corpus, out, "dynamic"))


@pytest.fixture(scope="session")
def successor(tiny_bert: Path, corpus: Path, once: Callable[..., Path]) -> Path:
    """What a short true compression makes of `tiny_bert`: a checkpoint with a manifest, two layers, two labels."""
    config = CompressConfig(max_steps=4, batch_size=8, replace_until=0.3, lr=1e-3, precision="fp32", threads=1)
    return once("compressed", lambda out: compress_checkpoint(str(tiny_bert), str(corpus), out, config))


@pytest.fixture(scope="session")
def successor_bundle(successor: Path, corpus: Path, once: Callable[..., Path]) -> Path:
    """The int8 ONNX bundle of `successor`, checked on `corpus`."""
    return once("successor", lambda out: export_bundle(successor, corpus, out, "dynamic"))


@pytest.fixture(scope="session")
def pairs(once: Callable[..., Path]) -> Path:
    """A file of 300 pairs of texts, each with a number."""
    draw = random.Random(7)
    rows = [
        (*(" ".join(draw.choices([*FILLER, *GOOD], k=draw.randint(1, 20))) for _ in range(2)), str(draw.random()))
        for _ in range(300)
    ]
    return once("pairs.csv", lambda path: write_csv(path, rows, "first,second,similarity"))


@pytest.fixture(scope="session")
def pair_successor(tiny_bert: Path, once: Callable[..., Path]) -> Path:
    """A checkpoint with a manifest, as compress writes it: two layers, and a number as the answer to a pair."""
    model = make_bert(layers=2, labels=1)
    manifest = Manifest(
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

    def make(out: Path) -> None:
        with Artifact.writing(out) as draft:
            save(model, draft.path)
            draft.finish(manifest)

    return once("pair-successor", make)


@pytest.fixture(scope="session")
def pair_bundle(pair_successor: Path, pairs: Path, once: Callable[..., Path]) -> Path:
    """The fp32 ONNX bundle of `pair_successor`, checked on `pairs`."""
    return once("pairs", lambda out: export_bundle(pair_successor, pairs, out, "none"))


@pytest.fixture(scope="session")
def family(once: Callable[..., Path]) -> Callable[[str, str], Path]:
    """Make a folder with a tiny `checkpoint` of a family and a kind of task, and its fp32 `bundle`."""

    def make(name: str, kind: str) -> Path:
        def fill(folder: Path) -> None:
            save_tiny(name, kind, folder / "checkpoint")
            export_checkpoint(str(folder / "checkpoint"), folder / "bundle", ExportConfig(threads=1))

        return once(f"{name}-{kind}", fill)

    return make


def save(model: torch.nn.Module, folder: Path) -> Path:
    """Save a model with the tiny tokenizer as a Hugging Face folder."""
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def export_bundle(checkpoint: Path, data: Path, out: Path, quantize: Quantize) -> Path:
    config = ExportConfig(quantize=quantize, threads=1)
    return export_checkpoint(str(checkpoint), out, config, data=str(data)).path
