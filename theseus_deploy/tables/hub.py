"""A data set of the Hub as tables, downloaded once."""

from typing import TYPE_CHECKING

from theseus_deploy import glue
from theseus_deploy.errors import DataError, brief
from theseus_deploy.tables.table import SPLIT_NAMES, Table, Tables, as_text, class_names, named

if TYPE_CHECKING:
    from datasets import Dataset

HUB_SECONDS = 10.0


def read_hub(ref: str, hub_id: str) -> Tables:
    """Read the data set `hub_id`, which the user called `ref`: `owner/name`, or `owner/name:config`.

    Raises:
        DataError: the Hub gave none of that name, or none of its splits has a name that is known.
    """
    from datasets import config as settings
    from datasets import load_dataset

    name, _, config = hub_id.partition(":")
    before, answers = settings.HF_HUB_OFFLINE, _hub_answers(name)
    settings.HF_HUB_OFFLINE = before or not answers  # what was downloaded before serves without the Hub
    try:
        loaded = load_dataset(name, config or None)
    except Exception as error:  # OSError, ValueError, RuntimeError, and those of whatever HTTP library is underneath
        reason = brief(error) if answers else "it cannot be reached"
        raise DataError(
            f"{ref} is no local path, and the Hub gave no such data set ({reason}); "
            "check the name and the network, or give a file"
        ) from error
    finally:
        settings.HF_HUB_OFFLINE = before
    tables = {split: _hub_table(loaded[hub]) for split, hub in _hub_splits(list(loaded)).items()}
    tables = {split: table for split, table in tables.items() if table}
    if not tables:
        raise DataError(f"{ref} has no split known by name (splits: {', '.join(loaded)}); give a file made of one")
    features = next(iter(loaded.values())).features
    names = {column: tuple(found) for column, feature in features.items() if (found := class_names(feature))}
    task = glue.TASKS.get(config) if name == glue.HUB else None
    if task is None:
        return Tables(tables, names=names)
    return Tables(tables, text=task.text, names={**names, glue.LABEL: task.labels}, metrics={glue.LABEL: task.metric})


def _hub_answers(name: str) -> bool:
    """Ask once, and soon give up: `load_dataset` alone would try again for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(name, timeout=HUB_SECONDS)
    except HfHubHTTPError:  # an answer, if not the one hoped for
        return True
    except Exception:  # no connection: those of whatever HTTP library is underneath
        return False
    return True


def _hub_splits(names: list[str]) -> dict[str, str]:
    return {
        split: next(alias for alias in aliases if alias in names)
        for split, aliases in SPLIT_NAMES.items()
        if any(alias in names for alias in aliases)
    }


def _hub_table(rows: "Dataset") -> Table:
    """Return a split as text, classes by their names; nothing where its labels are hidden, as GLUE does with -1."""
    columns = rows.with_format("arrow")[:]
    table = {}
    for name, feature in rows.features.items():
        values, names = columns[name].to_pylist(), class_names(feature)
        if values and (names or name == glue.LABEL) and all(value == -1 for value in values):
            return {}
        table[name] = [as_text(named(value, names) if names else value) for value in values]
    return table
