"""Make a task that no setting was chosen on: which side 20 graders took on a sentence of a film review.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python benchmarks/reviews.py vaderSentiment-3.3.2.tar.gz reviews/

The package ships 10,605 sentences with mean grades from -4 to 4 (Hutto and Gilbert, "VADER: A parsimonious rule-based
model for sentiment analysis of social media text", ICWSM 2014; MIT; sentences of Pang and Lee, 2005). Those graded
within half a point of 0 are left out. Writes `train.csv` and `test.csv`, a quarter of the rows.
"""

import csv
import io
import random
import sys
import tarfile
from pathlib import Path
from typing import IO

ARCHIVE, TABLE = "hutto_ICWSM_2014.tar.gz", "movieReviewSnippets_GroundTruth.txt"
UNDECIDED = 0.5
TEST_SHARE = 0.25


def open_member(archive: IO[bytes], name: str) -> IO[bytes]:
    """Open the file of this name, in whichever folder of a tar.gz it is."""
    bundle = tarfile.open(fileobj=archive)  # noqa: SIM115 (it has to outlive its member)
    member = next(one for one in bundle.getmembers() if Path(one.name).name == name)
    found = bundle.extractfile(member)
    assert found is not None
    return found


def read(sdist: Path) -> list[tuple[str, str]]:
    """Return texts and labels, in the order of the file."""
    with sdist.open("rb") as file:
        table = io.TextIOWrapper(open_member(open_member(file, ARCHIVE), TABLE), "utf-8", errors="replace")
        rows = [line.rstrip("\n").split("\t") for line in table]
    graded = [(text.strip(), float(grade)) for _, grade, text in rows]
    return [(text, "positive" if grade > 0 else "negative") for text, grade in graded if abs(grade) >= UNDECIDED]


def main() -> None:
    """Write both splits."""
    sdist, place = map(Path, sys.argv[1:])
    rows = read(sdist)
    random.Random(1).shuffle(rows)
    cut = round(TEST_SHARE * len(rows))
    place.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", rows[cut:]), ("test", rows[:cut])):
        with (place / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])


if __name__ == "__main__":
    main()
