"""The task that is held out: read from an archive in an archive."""

import io
import tarfile
from pathlib import Path

from benchmarks.reviews import ARCHIVE, TABLE, read


def pack(name: str, content: bytes) -> bytes:
    """Return a tar.gz with one file in a folder."""
    stream, member = io.BytesIO(), tarfile.TarInfo(f"folder/{name}")
    member.size = len(content)
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_sentences_that_graders_took_a_side_on_are_read(tmp_path: Path) -> None:
    rows = ["1\t2.3\tA joy.", "2\t-0.49\tNeither.", "3\t-0.5\tA bore. ", "4\t0.0\tNothing."]
    path = tmp_path / "sdist.tar.gz"
    path.write_bytes(pack(ARCHIVE, pack(TABLE, "\n".join(rows).encode())))
    assert read(path) == [("A joy.", "positive"), ("A bore.", "negative")]
