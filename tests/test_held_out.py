"""The tasks that are held out: read from archives as packages ship them."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.held_out import (
    EDITORIALS,
    GRADES,
    MESSAGES,
    MOST_MESSAGES,
    POSTS,
    PRODUCTS,
    REPORTS,
    REVIEWS,
    TASKS,
    TWEETS,
    WORDS,
    divide,
    elections,
    newsgroups,
    reuters,
)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a tar.gz with these files in a folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def sdist(place: Path, files: Mapping[str, bytes]) -> Path:
    path = place / "sdist.tar.gz"
    path.write_bytes(pack(files))
    return path


@pytest.mark.parametrize(
    ("task", "sentences"),
    [("reviews", REVIEWS), ("editorials", EDITORIALS), ("products", PRODUCTS), ("posts", POSTS)],
)
def test_sentences_that_graders_took_a_side_on_are_read(tmp_path: Path, task: str, sentences: str) -> None:
    rows = ["1\t2.3\tA joy.", "2\t-0.49\tNeither.", "3\t-0.5\tA bore. ", "4\t0.0\tNothing."]
    found = TASKS[task](sdist(tmp_path, {GRADES: pack({sentences: "\n".join(rows).encode()})}))
    assert found == [("A joy.", "positive"), ("A bore.", "negative")]


def test_tweets_go_to_their_authors_but_for_those_passed_on(tmp_path: Path) -> None:
    rows = [f'False\t"tweet ""{row}""\nof two lines"\tauthor {row % 2}' for row in range(8)] + [
        "True\tnot mine\tauthor 1"
    ]
    table = "\n".join(["Is retweet\tContent\tAuthor", "discrete\tstring\tdiscrete", "\tmeta\tclass", *rows])
    found = elections(sdist(tmp_path, {TWEETS: table.encode()}))
    assert found == [(f'tweet "{row}"\nof two lines', f"author {row % 2}") for row in range(8)]


def test_messages_are_cut_and_no_more_than_asked_are_drawn(tmp_path: Path) -> None:
    rows = [f"group {row % 20}\t{'word ' * 50}{row}" for row in range(MOST_MESSAGES + 10)]
    table = "\n".join(["Category\tText", "d\tstring", "class\t", *rows])
    found = newsgroups(sdist(tmp_path, {MESSAGES: table.encode()}))
    assert len(found) == MOST_MESSAGES
    assert {text for text, _ in found} == {" ".join(["word"] * WORDS)}
    assert {group for _, group in found} == {f"group {number}" for number in range(20)}


def test_a_quarter_is_put_aside_and_nothing_is_in_both_parts() -> None:
    rows = [(str(row), "label") for row in range(80)]
    parts = divide(rows)
    assert [len(part) for part in parts.values()] == [60, 20]
    assert sorted(parts["train"] + parts["test"]) == sorted(rows)
    assert parts == divide(rows)


def test_reports_are_cut_to_their_first_words(tmp_path: Path) -> None:
    table = f"Category\tText\nd\tstring\nclass\t\n\t\nearn\t{' word' * (WORDS + 1)}\ncocoa\tbeans rose"
    found = reuters(sdist(tmp_path, {REPORTS: table.encode()}))
    assert found == [(" ".join(["word"] * WORDS), "earn"), ("beans rose", "cocoa")]
