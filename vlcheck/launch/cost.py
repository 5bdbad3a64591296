"""What a job costs: hours of its cards at a price whose day and source are told."""

from __future__ import annotations

from vlcheck.gpus import GIB
from vlcheck.launch.duration import Duration
from vlcheck.launch.job import Job
from vlcheck.launch.platforms import Platform


def cost_of(
    duration: Duration,
    platform: Platform,
    card: str,
    count: int,
    own_price: float | None = None,
    job: Job | None = None,
) -> str:
    """One uninterrupted attempt in money, with what the price is and where it was read; empty where no price is known.

    Args:
        card: its name in `vlcheck.gpus`.
        count: cards of the job.
        job: whose CPUs and memory are charged beside the card; the platform's minimum where it names none.
        own_price: what the config says that the machine costs an hour, in a currency of its own; it outranks the row's.
    """
    hours = [seconds / 3600 for seconds in (duration.total.low, duration.total.high)]
    if own_price is not None:
        low, high = (own_price * each for each in hours)
        return f"{low:,.2f} to {high:,.2f} at {own_price:g} an hour (hardware.price_per_hour)"
    told = platform.prices.get(card)
    if told is None:
        return ""
    price, (cpus, gib) = told.value, _machine(platform, card, job)
    machine = price.cpu_usd * cpus + price.gib_usd * gib
    low, high = ((price.usd * count + machine) * each for each in hours)
    beside = f", {machine:.2f} for {cpus:g} CPUs and {gib:g} GiB beside it" if machine else ""
    doubt = told.doubt and f"; {told.doubt}"
    return (
        f"{low:,.2f} to {high:,.2f} USD at {price.usd:g} an hour and card{beside} ({price.what}; {told.source}, "
        f"{told.read}{doubt})"
    )


def _machine(platform: Platform, card: str, job: Job | None) -> tuple[float, float]:
    """CPUs and GiB of memory beside a card; 0 where nothing tells."""
    least = platform.minimums.get(card)
    cpus, gib = (0.0, 0.0) if least is None else (least.value.cpu, least.value.memory_gib)
    if job is not None:
        cpus = cpus if job.cpu is None else job.cpu.value
        gib = gib if job.memory_bytes is None else job.memory_bytes.value / GIB
    return cpus, gib
