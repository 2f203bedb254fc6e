"""A recipe -> the stages in order. A stage whose inputs and configuration have not changed is not run again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from theseus_deploy import glue
from theseus_deploy.artifact import MANIFEST, Artifact, scratch
from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.builtin import RECIPES
from theseus_deploy.configs import BenchmarkConfig, CompressConfig, Config, ExportConfig, FinetuneConfig
from theseus_deploy.errors import ArtifactError, ConfigError, ExportError, brief, suggest
from theseus_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    from theseus_deploy.benchmark.stage import BenchmarkRequest

C = TypeVar("C", bound=Config)

SUFFIXES = (".yaml", ".yml")
REPORTS = ("report.json", "report.md", "report.html")
SHARED = tuple(field.name for field in fields(Config))  # keys that a recipe may set once, for all stages
PRECISION_NAMES = {"none": "fp32", "dynamic": "int8", "static": "int8-static", "fp16": "fp16", "auto": "auto"}


@dataclass(frozen=True)
class Export:
    """One bundle to make: `of` is the model, `predecessor` or `successor`."""

    of: str
    config: ExportConfig

    @property
    def folder(self) -> str:
        """Name the bundle's folder."""
        return f"{self.of}-onnx-{PRECISION_NAMES[self.config.quantize]}"


@dataclass(frozen=True)
class Recipe:
    """A whole pipeline: `finetune` None means that `model` is a fine-tuned predecessor already."""

    model: str
    data: str
    text: tuple[str, ...] | None
    label: str | None
    finetune: FinetuneConfig | None
    compress: CompressConfig
    exports: tuple[Export, ...]
    benchmark: BenchmarkConfig | None

    @classmethod
    def open(cls, ref: str) -> Self:
        """Read a recipe: a file, or else one that ships with the package (`glue/mrpc`).

        Raises:
            ConfigError: it is not there, is no YAML, has a key that is not known, or lacks one.
        """
        path = Path(ref)
        if name := _shipped(ref):
            return cls.shipped(name)
        if not path.exists() and path.suffix not in SUFFIXES:
            raise ConfigError(f"{ref} is neither a file nor a built-in recipe; {suggest(glue.spelled(ref), RECIPES)}")
        try:
            content = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{ref} cannot be read ({error}); give a recipe file") from error
        return cls.parse(content, ref)

    @classmethod
    def shipped(cls, name: str) -> Self:
        """Read a recipe that ships with the package, one of `builtin.RECIPES`."""
        return cls.parse((files("theseus_deploy") / "recipes" / f"{name}.yaml").read_text("utf-8"), name)

    @classmethod
    def parse(cls, content: str, where: str) -> Self:
        """Read a recipe's text; `where` names it in errors."""
        import yaml

        try:
            recipe = yaml.load(content, _loader())
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none; brackets without end
            raise ConfigError(f"{where} is no YAML ({brief(error)}); correct it") from error
        if not isinstance(recipe, dict):
            raise ConfigError(f"{where} is no mapping of keys to values; begin with `model:` and `data:`")
        keys = ["model", "data", "text", "label", *SHARED, "finetune", "compress", "export", "benchmark"]
        for key in recipe:
            if key not in keys:
                raise ConfigError(f"{where}: key {key!r} is unknown; {_place_of(str(key)) or suggest(str(key), keys)}")
        for key in ("model", "data"):
            if not (recipe.get(key) and isinstance(recipe[key], str)):
                raise ConfigError(
                    f"{where}: key {key!r} is missing, empty or no text; add for instance `{key}: demo:...`"
                )
        shared = {key: recipe[key] for key in SHARED if key in recipe}

        def section(kind: type[C], content: Any, name: str) -> C:
            if not isinstance(content, Mapping):
                raise ConfigError(f"{where}: {name} is no mapping; write its keys below it, or {{}} for the defaults")
            return kind.from_mapping({**_fit(shared, kind), **content}, f"{where}: {name}")

        return cls(
            model=recipe["model"],
            data=recipe["data"],
            text=_columns(recipe.get("text")),
            label=",".join(_columns(recipe.get("label")) or ()) or None,
            finetune=section(FinetuneConfig, recipe["finetune"], "finetune") if "finetune" in recipe else None,
            compress=section(CompressConfig, recipe.get("compress", {}), "compress"),
            exports=_exports(section, recipe.get("export", []), where),
            benchmark=section(BenchmarkConfig, recipe["benchmark"], "benchmark") if "benchmark" in recipe else None,
        )

    def overridden(self, asked: Mapping[str, Any]) -> Self:
        """Return this recipe with `asked` in every stage, by keys of `SHARED`; what is None stays as it is.

        Raises:
            ConfigError: a value is out of its range.
        """
        given = {key: value for key, value in asked.items() if value is not None}

        def changed(config: C) -> C:
            return replace(config, **_fit(given, type(config)))

        return replace(
            self,
            finetune=changed(self.finetune) if self.finetune else None,
            compress=changed(self.compress),
            exports=tuple(replace(export, config=changed(export.config)) for export in self.exports),
            benchmark=changed(self.benchmark) if self.benchmark else None,
        )


def _fit(shared: Mapping[str, Any], kind: type[Config]) -> dict[str, Any]:
    """Leave out what a stage cannot share: an export runs on the CPU wherever the trainings do."""
    return {key: value for key, value in shared.items() if (kind, key) != (ExportConfig, "device")}


def _loader() -> type:
    """Return a loader that refuses a key given twice, of which YAML's own would take the last."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            keys = [key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode)]
            if twice := next((key for place, key in enumerate(keys) if key in keys[:place]), None):
                raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} is there twice", node.start_mark)
            return super().construct_mapping(node, deep)

    return Loader


def folder_for(ref: str) -> Path:
    """Return where a recipe is carried out if nothing else is said: beside its file, or here.

    Raises:
        ConfigError: the recipe's file has no suffix, so that its folder would have the name of the file.
    """
    if name := _shipped(ref):
        return Path(name.replace("/", "-"))
    if not Path(ref).suffix:
        raise ConfigError(f"{ref} has no suffix to leave out for a folder's name; say --out DIR, or call it {ref}.yaml")
    return Path(ref).with_suffix("")


def _shipped(ref: str) -> str:
    """Return the name of the recipe that ships with the package, unless there is a file of that name."""
    return glue.spelled(ref) if glue.spelled(ref) in RECIPES and not Path(ref).is_file() else ""


@dataclass(frozen=True)
class Outcome:
    """What a recipe made: folders by name, and the report with its files where one was asked for."""

    folders: Mapping[str, Path]
    report: BenchmarkReport | None = None
    report_files: tuple[Path, ...] = ()

    @property
    def exit_code(self) -> int:
        """Return what the gates of the benchmark ask the program to exit with."""
        return self.report.exit_code if self.report else 0


def run(recipe: Recipe, out: Path, progress: Progress = SILENT) -> Outcome:
    """Carry out a recipe into `out`, beginning where an earlier run of it stopped.

    Raises:
        TheseusError: a stage's request or input is wrong; the stages before it are kept.
    """
    from theseus_deploy.compress.stage import compress_checkpoint
    from theseus_deploy.export.quantize.choose import check_request
    from theseus_deploy.export.stage import export_checkpoint
    from theseus_deploy.finetune import finetune_checkpoint
    from theseus_deploy.race import race

    for trained in (recipe.finetune, recipe.compress):
        if trained and trained.report_to:  # known now, and not when hours have been spent
            from theseus_deploy.training import check_trackers

            check_trackers(trained)
    for wanted in recipe.exports:
        check_request(wanted.config, None, has_data=True, has_timer=True)
    if recipe.benchmark:
        _check_benchmark(recipe.benchmark, out)
    text, label = recipe.text, recipe.label
    models = {"predecessor": recipe.model, "successor": str(out / "successor")}
    folders: dict[str, Path] = {}

    def stage(name: str, make: Callable[[Path], Artifact]) -> None:
        progress.say(f"— {name}")
        manifest = out / name / MANIFEST
        before = manifest.read_bytes() if manifest.is_file() else None
        folders[name] = make(out / name).path
        if manifest.read_bytes() == before:
            progress.say("nothing changed, kept")

    if (finetuning := recipe.finetune) is not None:
        stage("predecessor", lambda folder: finetune_checkpoint(
            recipe.model, recipe.data, folder, finetuning, text=text, label=label, reuse=True, progress=progress
        ))  # fmt: skip
        models["predecessor"] = str(out / "predecessor")
    stage("successor", lambda folder: compress_checkpoint(
        models["predecessor"], recipe.data, folder, recipe.compress,
        text=text, label=label, reuse=True, progress=progress,
    ))  # fmt: skip
    for wanted in recipe.exports:

        def export(folder: Path, wanted: Export = wanted) -> Artifact:
            return export_checkpoint(
                models[wanted.of], folder, wanted.config,
                data=recipe.data, text=text, label=label, reuse=True, progress=progress, timer=race,
            )  # fmt: skip

        stage(wanted.folder, export)
    if recipe.benchmark is None:
        return Outcome(folders)
    progress.say("— benchmark")
    candidates = [str(path) for name, path in folders.items() if name != "predecessor"]
    files = tuple(out / name for name in REPORTS)
    report = _benchmark(recipe, recipe.benchmark, models["predecessor"], candidates, files, progress)
    return Outcome(folders, report, files)


def _benchmark(
    recipe: Recipe,
    config: BenchmarkConfig,
    baseline: str,
    candidates: list[str],
    files: tuple[Path, ...],
    progress: Progress,
) -> BenchmarkReport:
    from theseus_deploy.benchmark.stage import BenchmarkRequest
    from theseus_deploy.benchmark.views import save

    asked = BenchmarkRequest(
        candidates=candidates, baseline=baseline, data=recipe.data, config=config, text=recipe.text, label=recipe.label
    )
    if (report := _earlier(files[0])) and report.verdict != "inconclusive" and report.request == asked.identity():
        save(report, [path for path in files if not path.is_file()])
        progress.say("nothing changed, kept")
        return report
    report = benchmark_with_reference(asked, progress)
    save(report, files)
    return report


def _check_benchmark(config: BenchmarkConfig, out: Path) -> None:
    """Refuse what can be known of a benchmark before there is a model to measure."""
    from theseus_deploy.benchmark.stage import check_threads
    from theseus_deploy.benchmark.views import check_places

    check_threads(config)
    check_places([out / name for name in REPORTS], config.against)
    if config.against:
        BenchmarkReport.open(Path(config.against))


def _earlier(path: Path) -> BenchmarkReport | None:
    try:
        return BenchmarkReport.open(path)
    except ArtifactError:  # not there, damaged, or of another version of ours: it is measured again
        return None


def benchmark_with_reference(asked: "BenchmarkRequest", progress: Progress = SILENT) -> BenchmarkReport:
    """Benchmark, with the baseline in the bundles' runtime as well, unless a candidate is that or nobody wants it.

    Raises:
        TheseusError: as `benchmark.stage.benchmark`, and what keeps the baseline from being exported.
    """
    from theseus_deploy.benchmark.contender import missing_reference
    from theseus_deploy.export.stage import export_checkpoint

    baseline, config = asked.baseline, asked.config
    length = missing_reference(asked.opened[0], config)
    if length is None:
        return asked.run(progress)
    asked.check()
    progress.say(f"Exporting {baseline} to fp32 ONNX: what a runtime gains is not what compression gains")
    with scratch() as place:
        folder = place / f"{Path(baseline).resolve().name}-onnx-fp32"
        wanted = ExportConfig(seed=config.seed, threads=config.threads, max_length=length)
        try:
            export_checkpoint(baseline, folder, wanted, progress=progress)
        except ExportError as error:
            raise ExportError(f"{error}; or leave the exported baseline out with --no-reference") from error
        except ArtifactError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise ArtifactError(
                f"{baseline} cannot be exported to {place} ({error.__cause__.strerror}); free space, name another "
                "folder in TMPDIR, or leave the exported baseline out with --no-reference"
            ) from error
        return replace(asked, references=[str(folder)]).run(progress)


def _place_of(key: str) -> str:
    """Say below which sections of a recipe a key belongs that was found at its top; nothing if below none."""
    name = key.replace("-", "_")
    kinds = {
        "finetune": FinetuneConfig,
        "compress": CompressConfig,
        "export": ExportConfig,
        "benchmark": BenchmarkConfig,
    }
    sections = [f"{section}:" for section, kind in kinds.items() if name in {field.name for field in fields(kind)}]
    return f"write it below {' or '.join(sections)}" if sections else ""


def _columns(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    if any(isinstance(name, bool) for name in names):
        raise ConfigError(f"text or label {value!r}: YAML reads yes, no, on and off as true and false; quote the name")
    columns = tuple(str(name).strip() for name in names if isinstance(name, str | int))
    if not all(columns) or len(columns) != len(names) or not columns:
        raise ConfigError(f"text or label {value!r} names no columns; write a name, or a list of names")
    return columns


def _exports(section: Callable[..., ExportConfig], items: Any, where: str) -> tuple[Export, ...]:
    exports = tuple(_export(section, item, where) for item in (items if isinstance(items, list) else [items]))
    folders = [export.folder for export in exports]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ConfigError(f"{where}: export asks for {folder} {folders.count(folder)} times; keep one of them")
    return exports


def _export(section: Callable[..., ExportConfig], item: Any, where: str) -> Export:
    content = dict(item) if isinstance(item, Mapping) else {}
    of = content.pop("of", None)
    if of not in ("predecessor", "successor"):
        raise ConfigError(
            f"{where}: export wants a list of `{{of: predecessor|successor, quantize: ...}}`, not {item!r}"
        )
    return Export(of, section(ExportConfig, content, "export"))
