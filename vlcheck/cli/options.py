"""Options that several commands share, each declared once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class ReportFormat(StrEnum):
    """The names in `vlcheck.reports.RENDERERS`."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    JUNIT = "junit"
    GITHUB = "github"
    MARKDOWN = "markdown"


class DocumentFormat(StrEnum):
    """For people or for programs: what a command without a report offers."""

    TEXT = "text"
    JSON = "json"


class Threshold(StrEnum):
    """The names of `vlcheck.finding.Severity`."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


Config: TypeAlias = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="Config file of the run.", show_default=False)
]
ConfigHere: TypeAlias = Annotated[Path, typer.Argument(metavar="[CONFIG]", help="Config file of the run.")]
Format: TypeAlias = Annotated[
    ReportFormat | None, typer.Option("--format", help="Format of the report; text if nothing says otherwise.")
]
DocumentForm: TypeAlias = Annotated[DocumentFormat, typer.Option("--format", help="Format of the output.")]
Output: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the report there, in the format of the suffix or as FORMAT:FILE; can be repeated.",
    ),
]
Strict: TypeAlias = Annotated[bool, typer.Option("--strict", help="Exit 2 if a rule had to be skipped.")]
FailOn: TypeAlias = Annotated[
    Threshold | None, typer.Option(help="Least severity that exits 1; error if nothing says otherwise.")
]
Held: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--baseline", metavar="FILE", help="Leave out the findings that it holds, and take fixed ones out of it."
    ),
]
Against: TypeAlias = Annotated[
    Path | None, typer.Option("--against", metavar="FILE", help="Report what moved since this snapshot was taken.")
]
NewBaseline: TypeAlias = Annotated[
    Path | None, typer.Option("--write-baseline", metavar="FILE", help="Write all findings into a new baseline.")
]
Select: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="CODES", help="Run only these: codes, prefixes (VLC1) or names.")
]
Ignore: TypeAlias = Annotated[list[str] | None, typer.Option(metavar="CODES", help="Leave these out.")]
AllowCode: TypeAlias = Annotated[
    bool, typer.Option("--allow-code", help="Run the code that model.patch and data.collator name.")
]
Offline: TypeAlias = Annotated[bool, typer.Option("--offline", help="Never ask the Hub.")]
Stream: TypeAlias = Annotated[bool, typer.Option("--stream", help="Read a Hub data set that is not in the cache.")]
Rows: TypeAlias = Annotated[int, typer.Option(metavar="N", min=0, help="Rows whose labels are judged.")]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", help="Text report: all that was measured, and each rule by its code.")
]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what libraries print.")]
OneGpu: TypeAlias = Annotated[
    str | None, typer.Option("--gpu", metavar="NAME", help="Card, instead of the config's.", show_default=False)
]
MemoryGib: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0.001, max=4096, metavar="N", help="Memory of one GPU in GiB, for any card.", show_default=False),
]
GpuCount: TypeAlias = Annotated[
    int | None, typer.Option("--gpus", min=1, max=4096, metavar="N", help="GPUs of the run.", show_default=False)
]
FrameworkVersion: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="V", help="Version of the framework that will run, where another is here.", show_default=False
    ),
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Fill in or overrule a field of the run: lora.r=16; repeat it for more.",
        show_default=False,
    ),
]
Cards: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        metavar="NAME",
        help="Card, instead of the config's; repeat it for a table, `all` for every known card.",
        show_default=False,
    ),
]
Answer: TypeAlias = Annotated[
    int | None, typer.Option("--answer-tokens", min=1, help="Supervised tokens of a row.", show_default=False)
]
Images: TypeAlias = Annotated[
    int | None, typer.Option("--images", min=0, max=1000, help="Images of a row.", show_default=False)
]
Tokens: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Tokens of a row, image included.", show_default=False)
]
