from pathlib import Path

import numpy as np
import pytest

from theseus_deploy.errors import DataError
from theseus_deploy.plan.arrivals import Load, replay


def log_of(path: Path, stamps: list[object]) -> Path:
    path.write_text("\n".join(map(str, stamps)) + "\n\n")
    return path


def test_poisson_arrivals_have_their_rate_and_no_memory() -> None:
    gaps = np.diff(Load(50.0).arrivals(100_000, np.random.default_rng(1)))
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.02)


def test_a_log_is_replayed_from_its_first_stamp_in_order(tmp_path: Path) -> None:
    load = replay(
        log_of(tmp_path / "log", [1.7e9 + place / 4 for place in (*range(1001, 2001), *range(1, 1001))]), None
    )
    assert load.stamps is not None
    assert load.stamps[:3].tolist() == [0.0, 0.25, 0.5]
    assert load.rate == pytest.approx(4.0)
    assert load.arrivals(3, np.random.default_rng(1)) is load.stamps


def test_a_log_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\ufeff" + "\n".join(map(str, range(1500))), "utf-8")
    assert replay(tmp_path / "log", None).rate == pytest.approx(1.0)


def test_a_rate_stretches_a_log(tmp_path: Path) -> None:
    load = replay(log_of(tmp_path / "log", [place**2 for place in range(1001)]), 10.0)
    assert load.stamps is not None
    assert load.rate == 10.0
    assert load.stamps[-1] == pytest.approx(100.0)
    assert load.stamps[500] == pytest.approx(25.0)
    nanoseconds = replay(log_of(tmp_path / "ns", [1e9 * place**2 for place in range(1001)]), 10.0)
    assert nanoseconds.stamps == pytest.approx(load.stamps)


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        ([1.0] * 10, "10 time stamps, and a p99 needs 1000"),
        ([1.0] * 2000, "2000 times the stamp 1, and no rate"),
        ([*range(1500), "12:30:01"], "line 1501: '12:30:01' is no time in seconds; write one number"),
        ([*range(1500), "nan"], "line 1501: 'nan'"),
        (
            [0.0] * 1500 + [1e-310],
            "has 1,501 times within 1e-310 seconds, which are inf a second; give times in seconds",
        ),
        ([-1e308] * 1500 + [1e308], r"has 1,501 times within inf seconds, which are 0 a second"),
        ([float(1e15 * place) for place in range(2000)], "which are 1e-15 a second; give times in seconds"),
    ],
)
def test_what_cannot_be_replayed_is_refused(tmp_path: Path, stamps: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        replay(log_of(tmp_path / "log", stamps), None)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "log", tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"cannot be read.*give poisson, or a file"):
            replay(path, None)
