"""`vlcheck merge`: an adapter into its base, and whether it is there."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from vlcheck.cli.options import AllowCode, Config, Debug, DocumentForm, DocumentFormat, Offline
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import FOUND, guarded, json_text, say


@guarded
def merge(  # noqa: PLR0913, PLR0917  one parameter an option
    config: Config,
    adapter: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the saved adapter.", show_default=False)],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the merged model; nothing may be in it.", show_default=False)
    ],
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the base in 16 bits, where the config names another.", show_default=False
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: say whether the adapter is in the model that --out holds.")
    ] = False,
    no_logits: Annotated[
        bool, typer.Option("--no-logits", help="Compare files alone, where memory does not hold the model.")
    ] = False,
    other_base: Annotated[
        bool, typer.Option("--other-base", help="Merge though the adapter was trained on another base.")
    ] = False,
    form: DocumentForm = DocumentFormat.TEXT,
    allow_code: AllowCode = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Merge an adapter into its base in 16 bits, shard by shard, and verify files and logits before it is published.

    What ends before that leaves nothing at --out.
    """
    from vlcheck.config.load import load

    spec = load(config)
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.evaluation import merge as merging
        from vlcheck.evidence.options import Options

        options = Options(allow_code=allow_code, offline=offline)
        if check:
            document = merging.check_merged(
                spec, adapter, out, base=base, logits=not no_logits, other_base=other_base, options=options,
                progress=voice.progress,
            )  # fmt: skip
        else:
            with _termination():
                document = merging.merge(
                    spec, adapter, out, base=base, logits=not no_logits, other_base=other_base, options=options,
                    say=voice.line, progress=voice.progress,
                )  # fmt: skip
    from vlcheck.reports.merge import render_merge

    as_json = form is DocumentFormat.JSON
    say(json_text(document) if as_json else render_merge(document, checked=check), utf8=as_json)
    if document["faults"]:
        raise typer.Exit(FOUND)


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """Let SIGTERM end the work as an exception does, so that what was written is removed."""

    def leave(number: int, _: FrameType | None) -> None:
        raise typer.Exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
