"""The tasks that are held out: read from archives as packages ship them."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.held_out import GRADES, SENTENCES, TWEETS, elections, reviews


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


def test_sentences_that_graders_took_a_side_on_are_read(tmp_path: Path) -> None:
    rows = ["1\t2.3\tA joy.", "2\t-0.49\tNeither.", "3\t-0.5\tA bore. ", "4\t0.0\tNothing."]
    splits = reviews(sdist(tmp_path, {GRADES: pack({SENTENCES: "\n".join(rows).encode()})}))
    assert sorted(splits["train"] + splits["test"]) == [("A bore.", "negative"), ("A joy.", "positive")]


def test_tweets_go_to_their_authors_but_for_those_passed_on(tmp_path: Path) -> None:
    rows = [f'False\t"tweet ""{row}""\nof two lines"\tauthor {row % 2}' for row in range(8)] + [
        "True\tnot mine\tauthor 1"
    ]
    table = "\n".join(["Is retweet\tContent\tAuthor", "discrete\tstring\tdiscrete", "\tmeta\tclass", *rows])
    splits = elections(sdist(tmp_path, {TWEETS: table.encode()}))
    assert (len(splits["train"]), len(splits["test"])) == (6, 2)
    assert set(splits["train"] + splits["test"]) == {
        (f'tweet "{row}"\nof two lines', f"author {row % 2}") for row in range(8)
    }
