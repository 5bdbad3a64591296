"""What a terminal shows while libraries work: a spinner of ours, and none of their chatter."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

QUIET = {  # read by the libraries when they are imported
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "BITSANDBYTES_NOWELCOME": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
PATIENCE_SECONDS = 1.0


@contextlib.contextmanager
def quieted() -> Iterator[None]:
    """Keep warnings, log records, progress bars and prints of libraries from the terminal."""
    for name, setting in QUIET.items():
        os.environ.setdefault(name, setting)
    silenced = logging.root.manager.disable
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,  # noqa: PTH123  a Path has nothing to add to a device
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(silenced)


@contextlib.contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Show the current step on stderr once the work takes longer than a second; yields what to tell it.

    Without a terminal there is nothing to show. Enter this before `quieted`, which takes stderr away.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    wheel = Spinner("dots", text=Text("starting"))
    live = Live(wheel, console=Console(file=sys.stderr), transient=True, redirect_stdout=False, redirect_stderr=False)
    timer = threading.Timer(PATIENCE_SECONDS, live.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda step: wheel.update(text=Text(step))
    finally:
        timer.cancel()
        timer.join()
        live.stop()
