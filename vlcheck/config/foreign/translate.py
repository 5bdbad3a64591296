"""From another tool's file to a run: keys by the format's table, what they mean together, the native checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vlcheck.config import native
from vlcheck.config.foreign.draft import Draft, numbers
from vlcheck.config.foreign.keys import Fate
from vlcheck.config.frameworks import FRAMEWORKS
from vlcheck.finding import Json
from vlcheck.spec import ConfigError, Framework, Location, RunSpec


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of file of another tool."""

    name: str
    """What `Origin.format` calls it, and messages too."""
    title: str = ""
    """What messages call it, where that is another name."""
    framework: Framework
    """Whose loop runs what the file describes."""
    packages: tuple[str, ...]
    """Packages whose versions decide which keys there are; the framework's own comes first."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """Newest version of a package that the framework's release can be installed with; a newer one here is not its."""
    keys: Mapping[str, Fate]
    settle: Callable[[Draft], None] = lambda draft: None
    """What keys mean together; what it cannot read it refuses."""


def translated(
    form: Format,
    document: Mapping[str, Json],
    sources: Mapping[str, Location],
    folder: Path,
    *,
    stated: str | None = None,
    others: Mapping[str, str] | None = None,
) -> RunSpec:
    """Make a run of another tool's file.

    Args:
        document: what the file holds, as plain values.
        sources: dotted path to the place that set it.
        folder: what relative paths in the file are relative to.
        stated: version of the framework; by default the installed one, else the newest that vlcheck knows.
        others: versions of other packages that the file itself states.

    Raises:
        ConfigError: with every problem of the file, in the file's own words and places.
    """
    rows = {row.package: row for row in FRAMEWORKS[::-1]}
    versions = {package: _installed(package) or rows[package].version for package in form.packages}
    versions |= {package: pin for package, pin in form.pins.items() if numbers(versions[package]) > numbers(pin)}
    own = form.packages[0]
    if stated is not None and stated != versions[own]:  # what else is installed there is not known
        versions = {**dict.fromkeys(versions, ""), own: stated}
    versions |= {package: others[package] for package in versions if others and package in others and package != own}
    draft = Draft(f"{form.title or form.name} {versions[own]}", dict(document), dict(sources), versions, folder)
    draft.read(form.keys)
    form.settle(draft)
    if draft.problems:
        raise ConfigError(*sorted(draft.problems, key=lambda problem: problem.where))
    draft.document.setdefault("training", {}).update(framework=form.framework, framework_version=versions[own])
    for key in ("framework", "framework_version"):
        draft.sources[f"training.{key}"] = replace(draft.place(""), key=f"training.{key}")
    try:
        spec = native.to_spec(draft.document, draft.sources, folder)
    except ConfigError as unusable:
        raise ConfigError(*map(draft.in_their_words, unusable.problems)) from None
    return replace(spec, origin=draft.origin(form.name))


@cache
def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
