"""A collated row for the terminal: supervised ids green, the prompt dim, each image one box, padding grey."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from vlcheck.reports.units import plain

if TYPE_CHECKING:
    from vlcheck.collators.sample import Piece, RowView

STYLES = {
    "supervised": "bold green",
    "prompt": "dim",
    "image": "cyan",
    "padding": "bright_black",
    "supervised image": "bold white on red",
    "supervised padding": "bold white on red",
}
SIGNS = {"supervised": ("{+", "+}"), "supervised image": ("{+[", "]+}"), "supervised padding": ("{+[", "]+}"),
         "image": ("[", "]"), "padding": ("[", "]")}  # fmt: skip
"""What stands around a piece where there is no colour."""


def render_view(strip: RowView, *, width: int = 100, color: bool = False) -> str:
    """Draw a row; line ends of its text stay, and every control character is shown as its escape."""
    head = f"{strip.name}: {strip.supervised} of {strip.tokens} ids are supervised, by {strip.origin}"
    legend = "green is supervised" if color else "{+supervised+}"
    lines = Text(f"{plain(head)}\n{plain('processor: ' + strip.processor)}\n{legend}\n\n")
    for piece in strip.pieces:
        lines.append_text(_drawn(piece, color))
    console = Console(
        file=StringIO(), width=width, color_system="standard" if color else None, force_terminal=color,
        no_color=not color, legacy_windows=False, markup=False, emoji=False, highlight=False,
    )  # fmt: skip
    with console.capture() as capture:
        console.print(lines, soft_wrap=not color)
    return capture.get()


def _drawn(piece: Piece, color: bool) -> Text:
    boxed = piece.look.endswith(("image", "padding"))
    text = "\n".join(map(plain, piece.text.split("\n")))
    if color:
        return Text(f"[{text}]" if boxed else text, STYLES[piece.look])
    opens, closes = SIGNS.get(piece.look, ("", ""))
    return Text(f"{opens}{text}{closes}")
