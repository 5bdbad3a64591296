"""What an audit has seen of a run's gradients, for the loop that trains it on several GPUs."""

from __future__ import annotations

from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.model.tiny_run import Reach


def every_adapter_reached(evidence: Evidence) -> bool:
    """Whether a row with all that the run's data holds gives every adapter a gradient; False where it is not known."""
    try:
        found: Reach = evidence.get("reach")
    except (Unavailable, NotApplicable):
        return False
    return not (found.unreached or found.dropped)
