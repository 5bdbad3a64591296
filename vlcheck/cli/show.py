"""`vlcheck show`: one row, as the collator makes it."""

from __future__ import annotations

from typing import Annotated

import typer

from vlcheck.cli.options import AllowCode, Config, Debug, Offline, Stream
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import guarded, say, terminal_options


@guarded
def show(
    config: Config,
    row: Annotated[int, typer.Option(metavar="N", min=0, help="Row of the training split, from 0.")] = 0,
    allow_code: AllowCode = False,
    offline: Offline = False,
    stream: Stream = False,
    debug: Debug = False,
) -> None:
    """Print a collated row: supervised text green, prompt dim, each image one box.

    Shows what the run's own collator makes: vlcheck's, or the one that data.collator names (--allow-code).
    """
    from vlcheck.config.load import load
    from vlcheck.reports.sample import render_view

    spec = load(config)
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.evidence.row_view import view_row

        views = view_row(spec, row, progress=voice.progress, allow_code=allow_code, offline=offline, stream=stream)
    options = terminal_options()
    say("\n".join(render_view(strip, **options) for strip in views))
