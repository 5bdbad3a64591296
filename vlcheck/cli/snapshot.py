"""`vlcheck snapshot`: keep what is measured of a run, for `vlcheck audit --against`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlcheck.cli.options import AllowCode, Config, Debug, Offline, Rows, Stream
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import destined, fail, guarded, say, write


@guarded
def snapshot(
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the snapshot there.")
    ] = None,
    rows: Rows = 32,
    allow_code: AllowCode = False,
    offline: Offline = False,
    stream: Stream = False,
    debug: Debug = False,
) -> None:
    """Measure a run's adapters, supervised ids, row lengths and memory, as JSON. Needs no GPU and no weights."""
    from vlcheck.config.load import load
    from vlcheck.config.project import read_project
    from vlcheck.finding import Unavailable

    spec = load(config, project=read_project(config.parent))
    if output is not None:
        destined([f"json:{output}"], None, config)
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.evidence.resolve import Evidence
        from vlcheck.evidence.snapshot import render_snapshot

        evidence = Evidence(
            spec, {}, progress=voice.progress, allow_code=allow_code, offline=offline, stream=stream, rows=rows
        )
        try:
            taken = evidence.get("snapshot")
        except Unavailable as missing:
            fail(missing.reason)
    text = render_snapshot(taken)
    if output is None:
        say(text, utf8=True)
    else:
        write(output, text)
        say(f"wrote {output}: {', '.join(taken.values)}; vlcheck audit {config} --against {output} tells what moved\n")
