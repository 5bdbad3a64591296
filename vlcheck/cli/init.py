"""`vlcheck init` and `vlcheck schema`: a config to start from, and what may stand in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlcheck.cli.streams import fail, guarded, json_text, say, write

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


@guarded
def init(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="File to write; - is stdout.")] = Path("vlcheck.yaml"),
    recipe: Annotated[str, typer.Option(metavar="NAME", help="Recipe to start from.")] = "starter",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented config to start from."""
    recipes = _recipes()
    if recipe not in recipes:
        fail(f"no recipe {recipe!r}; recipes: {', '.join(recipes)}")
    text = recipes[recipe].read_text(encoding="utf-8")
    if str(path) == "-":
        say(text, utf8=True)
        return
    if path.exists() and not path.is_dir() and not force:
        fail(f"{path} exists; --force overwrites it")
    write(path, text)
    say(f"wrote {path}; next: vlcheck audit {path}\n")


def _recipes() -> dict[str, Traversable]:
    from importlib.resources import files

    found = (entry for entry in (files("vlcheck") / "recipes").iterdir() if entry.name.endswith(".yaml"))
    return {entry.name.removesuffix(".yaml"): entry for entry in sorted(found, key=lambda entry: entry.name)}


@guarded
def schema() -> None:
    """Print the config format's JSON Schema, for editors."""
    from vlcheck.config import native

    say(json_text(native.schema()), utf8=True)
