"""`theseus plan`."""

from pathlib import Path
from typing import Annotated

import typer

from theseus_deploy.configs import PlanConfig
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt

SERVERS = "Servers"


def command(
    report: Annotated[
        Path, typer.Argument(help="The JSON of `theseus benchmark --report`.", metavar="REPORT", parser=opt.path)
    ],
    p99_ms: Annotated[float, typer.Option(help="The objective: 99 of 100 inputs are answered in so many ms.")],
    qps: Annotated[
        float | None, typer.Option(help="Inputs a second. A replay without it keeps the rate of its log.")
    ] = PlanConfig.qps,
    arrivals: Annotated[
        str,
        typer.Option(
            help="poisson, or a file of time stamps to replay: one a line, in seconds.", metavar="FILE", parser=opt.name
        ),
    ] = PlanConfig.arrivals,
    price_per_hour: Annotated[
        float | None,
        typer.Option(help="What all cores that the benchmark might use cost an hour; one of them costs its share."),
    ] = PlanConfig.price_per_hour,
    max_batch: Annotated[
        int | None,
        typer.Option(
            help="Inputs a server takes at once, at most; the largest batch measured by default.",
            rich_help_panel=SERVERS,
        ),
    ] = PlanConfig.max_batch,
    batch_window_ms: Annotated[
        float,
        typer.Option(
            help="How long the first input of a batch waits for others; at 0 a free server takes what is there.",
            rich_help_panel=SERVERS,
        ),
    ] = PlanConfig.batch_window_ms,
    overhead_ms: Annotated[
        float,
        typer.Option(
            help="What a server spends on a batch beside tokenising and answering: to be sent it, to reply.",
            rich_help_panel=SERVERS,
        ),
    ] = PlanConfig.overhead_ms,
    network_ms: Annotated[
        float,
        typer.Option(
            help="What the way to a server and back adds to an answer, and keeps no server busy.",
            rich_help_panel=SERVERS,
        ),
    ] = PlanConfig.network_ms,
    seed: opt.Seed = PlanConfig.seed,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Find how many cores each candidate needs to hold a latency objective under a load, and what they cost.

    Simulates fleets of servers behind one queue, from the service times and the mix of lengths in a benchmark's report.
    A fleet holds the objective when the whole 95 % interval of its p99 does. Exit code 3 if no candidate can.

    Batch sizes between those that were measured are interpolated: benchmark with `--batch 1,2,4,8`, and with the
    `--threads` that a server will have.

        theseus plan report.json --qps 5000 --p99-ms 20 --price-per-hour 0.40
    """
    from theseus_deploy.plan.stage import plan_path

    found = plan_path(report, opt.config_from(PlanConfig, locals()), console.progress(quiet))
    raise typer.Exit(console.print_plan(found, json))
