"""What is computed once is computed once; and a cache that fails costs time, never the run."""

import os
from pathlib import Path

import pytest
from datasets import Dataset

from theseus_deploy import cache
from theseus_deploy.cache import cache_folder, cached, key_of

ROWS = {"ids": [[1, 2], [3]], "scores": [[[0.5]], [[1.5], [2.5]]]}


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Dataset:
        self.calls += 1
        return Dataset.from_dict(ROWS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THESEUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_rows_are_made_once_and_come_back_equal(folder: Path) -> None:
    make = Counting()
    for _ in range(3):
        assert cached("a", make)[:] == ROWS
    assert make.calls == 1
    assert [path.name for path in folder.iterdir()] == ["a.arrow"]
    cached("b", make)
    assert make.calls == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 4096])
def test_a_damaged_file_is_made_anew(folder: Path, content: bytes) -> None:
    make = Counting()
    cached("a", make)
    (folder / "a.arrow").write_bytes(content)
    assert cached("a", make)[:] == ROWS
    assert cached("a", make)[:] == ROWS
    assert make.calls == 2


def test_a_place_that_cannot_be_written_is_no_reason_to_fail(folder: Path) -> None:
    folder.write_text("a file is in the way")
    make = Counting()
    assert cached("a", make)[:] == ROWS
    assert cached("a", make)[:] == ROWS
    assert make.calls == 2


def test_what_was_not_used_for_longest_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Counting()
    for age, key in enumerate("abc"):
        cached(key, make)
        os.utime(folder / f"{key}.arrow", (age, age))
    cached("a", make)  # used again
    monkeypatch.setattr(cache, "LIMIT", 3 * (folder / "a.arrow").stat().st_size)
    cached("d", make)
    assert sorted(path.stem for path in folder.iterdir()) == ["a", "c", "d"]


def test_the_key_depends_on_every_fact_and_on_no_order() -> None:
    assert key_of({"a": 1, "b": [2, "x"]}) == key_of({"b": [2, "x"], "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"b": 1}), key_of({"a": [1]})}) == 4


def test_it_lies_where_the_user_says_else_where_caches_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THESEUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/theseus")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "theseus"


def test_whoever_has_no_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THESEUS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    with pytest.raises(RuntimeError, match="home"):
        cache_folder()
    assert cached("key", lambda: Dataset.from_dict({"a": [1]}))["a"] == [1]
