"""`theseus benchmark`."""

from pathlib import Path
from typing import Annotated

import typer

from theseus_deploy.configs import BenchmarkConfig, Runtime
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt

GATES = "Gates"


def command(
    candidates: Annotated[
        list[str], typer.Argument(help="Bundles and checkpoints to measure.", metavar="CANDIDATE...", parser=opt.name)
    ],
    baseline: Annotated[
        str,
        typer.Option(
            help="What they are measured against: usually the original model.", metavar="MODEL", parser=opt.name
        ),
    ],
    data: opt.Data,
    text: opt.Text = None,
    label: opt.Label = None,
    batch: Annotated[
        str, typer.Option(help="Batch sizes. Each is measured at the data's own lengths, tokenisation included.")
    ] = ",".join(map(str, BenchmarkConfig.batch)),
    sequence: Annotated[
        str, typer.Option(help="Fixed lengths in tokens to measure as well, at every batch size: `32,128`.")
    ] = ",".join(map(str, BenchmarkConfig.sequence)),
    threads_sweep: Annotated[
        str, typer.Option(help="Measure the first shape with so many threads as well: `1,2,4`.", metavar="N,N...")
    ] = ",".join(map(str, BenchmarkConfig.threads_sweep)),
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            help="What the cores that this program may use cost an hour: the cost of a million inputs follows."
        ),
    ] = BenchmarkConfig.price_per_hour,
    runtime: Annotated[
        Runtime, typer.Option(help="auto: torch for checkpoints, onnxruntime for bundles.")
    ] = BenchmarkConfig.runtime,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Measure checkpoints in bfloat16 as well, where the CPU computes in it.")
    ] = BenchmarkConfig.bf16,
    reference: Annotated[
        bool,
        typer.Option(
            help="Beside bundles, measure the baseline exported to fp32 ONNX as well, judged by no gate: what the "
            "runtime gains is not what compression gains."
        ),
    ] = BenchmarkConfig.reference,
    min_samples: Annotated[
        int,
        typer.Option(help="Samples at least, of every candidate at every shape, unless --max-seconds are over first."),
    ] = BenchmarkConfig.min_samples,
    max_seconds: Annotated[
        float, typer.Option(help="Time for all timing together; ten rounds of every shape are timed in any case.")
    ] = BenchmarkConfig.max_seconds,
    max_rows: Annotated[
        int | None, typer.Option(help="Rows to score, drawn once from test or validation; all by default.")
    ] = BenchmarkConfig.max_rows,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the report: .json, .md, .html or .xml (JUnit). Repeatable.", metavar="FILE", parser=opt.path
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="An earlier report of the same machine, versions, baseline and data: what has changed since.",
            metavar="FILE.json",
            parser=opt.name,
        ),
    ] = BenchmarkConfig.against,
    max_p50_ratio: Annotated[
        float | None, typer.Option(help="Median latency over the baseline's.", rich_help_panel=GATES)
    ] = None,
    max_p95_ratio: Annotated[
        float | None, typer.Option(help="95th percentile over the baseline's.", rich_help_panel=GATES)
    ] = None,
    max_regression_ratio: Annotated[
        float | None,
        typer.Option(
            help="Ratio of medians over that in --against: 1.1 is a tenth slower than then.", rich_help_panel=GATES
        ),
    ] = None,
    max_metric_drop: Annotated[
        float | None, typer.Option(help="Loss of the metric that decides, 0.01 is a point.", rich_help_panel=GATES)
    ] = None,
    min_label_loyalty: Annotated[
        float | None,
        typer.Option(
            help="Share of inputs, or of tagged words, whose labels equal the baseline's.", rich_help_panel=GATES
        ),
    ] = None,
    max_size_ratio: Annotated[
        float | None, typer.Option(help="Weights on disk over the baseline's.", rich_help_panel=GATES)
    ] = None,
    device: opt.DeviceOption = BenchmarkConfig.device,
    cuda_graphs: Annotated[
        bool,
        typer.Option(
            "--cuda-graphs", help="Capture and replay bundles on a GPU; torch does not.", rich_help_panel=opt.MACHINE
        ),
    ] = BenchmarkConfig.cuda_graphs,
    threads: opt.Threads = BenchmarkConfig.threads,
    seed: opt.Seed = BenchmarkConfig.seed,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure latency, size, accuracy and loyalty against the original model, and gate CI on them.

    One process a candidate, one working at a time, rounds interleaved. Gates are decided on 95 % intervals: exit
    code 3 if one fails, 4 if one is inconclusive.

        theseus benchmark bundle --baseline predecessor --data reviews/ --max-p50-ratio 0.5 --report report.html
    """
    from theseus_deploy.benchmark.stage import BenchmarkRequest
    from theseus_deploy.benchmark.views import check_places, save
    from theseus_deploy.pipeline import benchmark_with_reference

    lists = {"batch": batch, "sequence": sequence, "threads_sweep": threads_sweep}
    numbers = {name: opt.numbers(value, f"--{name.replace('_', '-')}") for name, value in lists.items()}
    config = opt.config_from(BenchmarkConfig, {**locals(), **numbers})
    check_places(report or [], config.against)
    asked = BenchmarkRequest(
        candidates=candidates, baseline=baseline, data=data, config=config, text=opt.words(text), label=label
    )
    found = benchmark_with_reference(asked, console.progress(quiet))
    try:
        save(found, report or [])
    finally:  # a disk that is full takes the files, not what was found
        code = console.print_report(found, json)
    raise typer.Exit(code)
