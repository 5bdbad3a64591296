"""How evidence about the run's images is had: every one read, equal ones found."""

from __future__ import annotations

from collections.abc import Callable

from vlcheck.data.duplicates import Duplicates, find_duplicates
from vlcheck.data.scan import Scan, scan_data
from vlcheck.evidence.options import Options
from vlcheck.finding import collector
from vlcheck.spec import RunSpec


@collector("scanning the run's images")
def scan(spec: RunSpec, options: Options, progress: Callable[[str], None]) -> Scan:
    """Every image of both splits, opened and decoded: size in pixels, mode, problems and a perceptual hash."""
    return scan_data(spec.data, offline=options.offline or not options.stream, progress=progress)


@collector("comparing the images of both splits")
def duplicates(scan: Scan) -> Duplicates:
    """Images of the evaluation split that the training split has too: pixel for pixel, or to the eye."""
    return find_duplicates(scan)


IMAGE_COLLECTORS = (scan, duplicates)
