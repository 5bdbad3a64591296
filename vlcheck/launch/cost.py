"""What a job costs: hours of its cards at a price whose day and source are told."""

from __future__ import annotations

from vlcheck.launch.duration import Duration
from vlcheck.launch.platforms import Platform


def cost_of(duration: Duration, platform: Platform, card: str, count: int, own_price: float | None = None) -> str:
    """One uninterrupted attempt in money, with what the price is and where it was read; empty where no price is known.

    Args:
        card: its name in `vlcheck.gpus`.
        count: cards of the job.
        own_price: what the config says that the machine costs an hour, in a currency of its own; it outranks the row's.
    """
    hours = [seconds / 3600 for seconds in (duration.total.low, duration.total.high)]
    if own_price is not None:
        low, high = (own_price * each for each in hours)
        return f"{low:,.2f} to {high:,.2f} at {own_price:g} an hour (hardware.price_per_hour)"
    told = platform.prices.get(card)
    if told is None:
        return ""
    low, high = (told.value.usd * count * each for each in hours)
    doubt = told.doubt and f"; {told.doubt}"
    return (
        f"{low:,.2f} to {high:,.2f} USD at {told.value.usd:g} an hour and card ({told.value.what}; {told.source}, "
        f"{told.read}{doubt})"
    )
