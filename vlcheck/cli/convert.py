"""`vlcheck convert`: another tool's config in vlcheck's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlcheck.cli.options import FrameworkVersion, Settings
from vlcheck.cli.streams import fail, guarded, say, write


@guarded
def convert(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Config, script, notebook or adapter's folder of another tool.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the config there, not to stdout.")
    ] = None,
    framework_version: FrameworkVersion = None,
    settings: Settings = None,
) -> None:
    """Write a run of another tool as a config of vlcheck, defaults included.

    Each line says which line of the file, or whose default, its value came from.
    """
    from vlcheck.config.load import load
    from vlcheck.config.native_text import write_native

    spec = load(config, framework_version=framework_version, settings=settings or ())
    text = write_native(spec, str(config))
    if output is None:
        say(text, utf8=True)
        return
    if output.resolve() == config.resolve():
        fail(f"--output {output} would overwrite the config")
    write(output, text)
    say(f"wrote {output}; next: vlcheck audit {output}\n")
