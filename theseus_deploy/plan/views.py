"""A plan for a terminal of 80 columns: the answer first, then one table. The caller prints it."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from theseus_deploy.benchmark.stats import Estimate
from theseus_deploy.benchmark.views.numbers import counted, digits, milliseconds
from theseus_deploy.benchmark.views.words import plain
from theseus_deploy.configs import POISSON
from theseus_deploy.plan.search import REPLICATIONS
from theseus_deploy.plan.stage import HOURS_A_MONTH, Need, Plan


def render(plan: Plan) -> RenderableType:
    """Return the plan as something rich prints."""
    parts: list[RenderableType] = [Text(_answer(plan)), Text(), _table(plan), Text()]
    parts += [Text(line, style="dim") for line in (_method_line(plan), _price_line(plan), *plan.remarks)]
    return Group(*parts)


def _answer(plan: Plan) -> str:
    objective = f"{digits(plan.qps)} inputs/s within {plan.config.p99_ms:g} ms at p99"
    best, *others = plan.needs
    if best.servers is None:
        return f"No candidate holds {objective}, on any number of cores: {_hopeless(best, plan)}"
    rivals = [f"{other.cores} with {plain(other.candidate)}" for other in others if other.cores][-1:]
    cores = "; ".join([counted(best.cores or 0, "core"), *rivals])
    return f"{plain(best.candidate)} holds {objective} on {cores}."


def _hopeless(need: Need, plan: Plan) -> str:
    """Say why no number of servers is enough, and what would help."""
    p99 = need.outlook.p99
    if p99.value <= plan.config.p99_ms / 1e3:
        return f"p99 is {_ms(p99)} ms at best, and not surely below it: benchmark with more --max-seconds."
    remedy = "lower --batch-window-ms, or " if plan.config.batch_window_ms else ""
    return (
        f"where more servers no longer help, p99 is {_ms(p99)} ms: {remedy}benchmark with more --threads, "
        "or compress further."
    )


def _table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    table.add_column("candidate", overflow="fold", min_width=14)
    headers = ["cores", "servers", "busy", "inputs\na batch", "p50\nms", "p99 ms\n95 %"]
    priced = plan.config.price_per_hour is not None
    for header in [*headers, "cost\na month"] if priced else headers:
        table.add_column(header, justify="right", no_wrap=True)
    for need in plan.needs:
        outlook = need.outlook
        busy = f"{outlook.utilisation:.0%}" if need.servers else "–"
        cells = [_whole(need.cores), _whole(need.servers), busy, digits(outlook.batch), milliseconds(outlook.p50.value)]
        cost = [digits(need.cost_per_month) if need.cost_per_month is not None else "–"] if priced else []
        table.add_row(Text(plain(need.candidate)), *cells, _ms(outlook.p99), *cost)
    return table


def _method_line(plan: Plan) -> str:
    config, threads = plan.config, counted(plan.machine["threads"], "thread")
    most = counted(plan.needs[0].max_batch, "input")
    arrivals = "Poisson" if config.arrivals == POISSON else f"replayed ({plain(config.arrivals)})"
    none = " Where no number of servers is enough there is none, and times are of as many as still help."
    return (
        f"A server is a process of {threads}, a core each, on {plan.machine['cpu']}; it takes up to "
        f"{most}, waits {config.batch_window_ms:g} ms for them and spends "
        f"{config.overhead_ms:g} ms on them beside what was measured; the way to it and back takes "
        f"{config.network_ms:g} ms. {REPLICATIONS} simulations "
        f"of {arrivals} arrivals, each on resampled service times; p99 holds where its whole interval does."
        + (none if any(need.servers is None for need in plan.needs) else "")
    )


def _price_line(plan: Plan) -> str:
    price, cores = plan.config.price_per_hour, plan.machine["cores"]
    if price is None:
        return "Give --price-per-hour, that of this machine, for the cost."
    return f"Cost: {price:g} an hour for {counted(cores, 'core')}, {HOURS_A_MONTH} hours a month, no spare servers."


def _ms(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{milliseconds(estimate.value)} [{milliseconds(low)}, {milliseconds(high)}]"


def _whole(count: int | None) -> str:
    return "none" if count is None else f"{count:,}"
