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
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="Your model: a Hub id or a folder.", show_default=False)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Your data: a folder, a file or a Hub id.", show_default=False),
    ] = None,
    framework: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose loop will run: trl, axolotl, ...", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented config to start from."""
    recipes = _recipes()
    if recipe not in recipes:
        fail(f"no recipe {recipe!r}; recipes: {', '.join(recipes)}")
    text = recipes[recipe].read_text(encoding="utf-8")
    if model or data or framework:
        text = _filled(text, recipe, path, model=model, data=data, framework=framework)
    if str(path) == "-":
        say(text, utf8=True)
        return
    if path.exists() and not path.is_dir() and not force:
        fail(f"{path} exists; --force overwrites it")
    write(path, text)
    say(f"wrote {path}; next: vlcheck audit {path}\n")


def _filled(text: str, recipe: str, path: Path, *, model: str | None, data: str | None, framework: str | None) -> str:
    """The starter for a model and data of the user's own."""
    from typing import get_args

    from vlcheck.config.starter import starter_for
    from vlcheck.spec import Framework

    if recipe != "starter":
        fail(f"--recipe {recipe} has its own model and data; --model, --data and --framework fill in the starter")
    if framework is not None and framework not in get_args(Framework):
        fail(f"no framework {framework!r}; frameworks: {', '.join(get_args(Framework))}")
    folder = Path() if str(path) == "-" else path.parent
    return starter_for(text, model=model, data=data, framework=framework, folder=folder)


def _recipes() -> dict[str, Traversable]:
    from importlib.resources import files

    found = (entry for entry in (files("vlcheck") / "recipes").iterdir() if entry.name.endswith(".yaml"))
    return {entry.name.removesuffix(".yaml"): entry for entry in sorted(found, key=lambda entry: entry.name)}


@guarded
def schema() -> None:
    """Print the config format's JSON Schema, for editors."""
    from vlcheck.config import native

    say(json_text(native.schema()), utf8=True)
