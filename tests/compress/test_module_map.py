import pytest

from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.errors import ConfigError


@pytest.mark.parametrize(
    ("layers", "n", "expected"),
    [
        (12, 6, "0-1,2-3,4-5,6-7,8-9,10-11"),
        (12, 5, "0-1,2-3,4-6,7-8,9-11"),
        (6, 3, "0-1,2-3,4-5"),
        (6, 4, "0,1-2,3,4-5"),
        (4, 4, "0,1,2,3"),
        (7, 1, "0-6"),
    ],
)
def test_even_spreads_the_layers(layers: int, n: int, expected: str) -> None:
    assert str(ModuleMap.even(layers, n)) == expected


@pytest.mark.parametrize("layers", range(1, 25))
def test_even_is_an_ordered_partition_whose_sizes_differ_by_one_at_most(layers: int) -> None:
    for n in range(1, layers + 1):
        module_map = ModuleMap.even(layers, n)
        sizes = [len(module) for module in module_map.modules]
        assert (module_map.predecessor_layers, module_map.successor_layers) == (layers, n)
        assert max(sizes) - min(sizes) <= 1


def test_parse_reads_what_str_writes() -> None:
    text = "0-1,2-3,4-8,9-11"
    module_map = ModuleMap.parse(text, 12)
    assert module_map.modules == ((0, 1), (2, 3), (4, 5, 6, 7, 8), (9, 10, 11))
    assert str(module_map) == text


@pytest.mark.parametrize(
    "text",
    ["1-2,3", "0-1,1-2", "0,2", "2,1,0", "0-2,4-5", "", ",", "0-", "a-b", "0-1-2", "0-1,,2", "1-0", "-1", "0-1;2"],
)
def test_parse_refuses_what_is_no_ordered_partition(text: str) -> None:
    with pytest.raises(ConfigError, match="--map"):
        ModuleMap.parse(text, 3)


def test_parse_refuses_a_map_of_another_depth() -> None:
    with pytest.raises(ConfigError, match=r"covers 4 layers, the predecessor has 6"):
        ModuleMap.parse("0-1,2-3", 6)
    with pytest.raises(ConfigError, match="cannot be read"):
        ModuleMap.parse("0-99999999999", 6)


@pytest.mark.parametrize("n", [0, -1, 7])
def test_even_refuses_more_layers_than_there_are(n: int) -> None:
    with pytest.raises(ConfigError, match=rf"--layers {n} is outside 1\.\.6"):
        ModuleMap.even(6, n)


@pytest.mark.parametrize(
    ("init", "expected"),
    [("bottom", (0, 1, 2)), ("first", (0, 2, 4)), ("last", (1, 3, 5)), ("every-other", (1, 3, 5))],
)
def test_sources_of_an_even_map(init: str, expected: tuple[int, ...]) -> None:
    assert ModuleMap.even(6, 3).sources(init) == expected


def test_sources_of_an_uneven_map() -> None:
    module_map = ModuleMap.parse("0,1-4,5", 6)
    assert module_map.sources("first") == (0, 1, 5)
    assert module_map.sources("last") == (0, 4, 5)
    assert module_map.sources("every-other") == (1, 3, 5)
