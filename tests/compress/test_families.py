"""What is known of a family, from its configuration alone."""

from itertools import product

import pytest
from transformers import AutoConfig, PretrainedConfig

from theseus_deploy.compress.families import FAMILIES, check_sources, count_layers, family_of
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.errors import ConfigError, ModelError

INITS = ["bottom", "first", "last", "every-other"]


@pytest.mark.parametrize(
    ("kind", "reason"), [("albert", "share one set of weights"), ("gpt2", "no encoder we know"), ("t5", "no encoder")]
)
def test_what_cannot_be_divided_is_refused_with_its_reason(kind: str, reason: str) -> None:
    config = AutoConfig.for_model(kind)
    for ask in (family_of, count_layers, lambda refused: check_sources(refused, [0])):
        with pytest.raises(ModelError, match=reason):
            ask(config)


@pytest.mark.parametrize("kind", FAMILIES)
def test_layers_are_counted_under_the_familys_own_name(kind: str) -> None:
    name = {"distilbert": "n_layers"}.get(kind, "num_hidden_layers")
    assert count_layers(AutoConfig.for_model(kind, **{name: 7})) == 7


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "modernbert"])
def test_layers_that_are_all_built_alike_may_stand_anywhere(kind: str) -> None:
    check_sources(AutoConfig.for_model(kind), [3, 0, 1])


def refuses(config: PretrainedConfig, sources: tuple[int, ...]) -> bool:
    try:
        check_sources(config, sources)
    except ConfigError:
        return True
    return False


def test_a_modernbert_keeps_its_first_layer_first() -> None:
    config = AutoConfig.for_model("modernbert")
    for init, layers in product(INITS, range(1, 23)):
        sources = ModuleMap.even(22, layers).sources(init)
        assert refuses(config, sources) == (sources[0] != 0), (init, layers)
        assert not (refuses(config, sources) and init in ("bottom", "first")), "the remedy is refused as well"
    assert refuses(config, (0, 1, 0))


def test_the_refusal_names_the_layers_the_limit_and_the_remedy() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^successor layer 0 would start as layer 1, but in modernbert layer 0, and no other, is without "
        r"attn_norm; use --init bottom or --init first, which keep it first$",
    ):
        check_sources(AutoConfig.for_model("modernbert"), ModuleMap.even(22, 11).sources("last"))
