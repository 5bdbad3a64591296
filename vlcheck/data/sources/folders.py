"""Folders of images: a folder a class, the folder's name the answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from vlcheck.data.conversation import BadRow, Picture
from vlcheck.data.sources.flat import answered
from vlcheck.data.sources.images import SUFFIXES
from vlcheck.data.sources.row import Row, RowProblem, shown
from vlcheck.spec import Data

DEEPEST = 64
"""Folders inside each other that are looked into; deeper ones are named and left."""


def read_folder(folder: Path, data: Data, split: str, *, root: Path) -> Iterator[Row | RowProblem]:
    """Yield a row for each image below the class folders, one of each class in turn.

    In turn, so that the first rows of a run with `train_samples` are of every class. The names of all
    files are held, about 100 bytes each.

    Args:
        root: the folder that row names are relative to.
    """
    folders, images, problems = _listed(folder)
    for problem in problems:
        yield RowProblem(_title(folder, root), split, problem)
    for image in images:
        name = _title(image, root)
        message = "the image lies in no class folder, so it has no answer; allowed: CLASS/NAME, metadata.csv"
        yield RowProblem(name, split, message, (Picture(image, name),))
    classes = [(inside.name, _images(inside, (os.path.realpath(folder),))) for inside in folders]
    for turn in zip_longest(*(found for _, found in classes)):
        for (label, _), found in zip(classes, turn, strict=True):
            if found is not None:
                yield _row(label, found, data, split, root)


def _row(label: str, found: tuple[Path, str], data: Data, split: str, root: Path) -> Row | RowProblem:
    path, problem = found
    name = _title(path, root)
    if problem:
        return RowProblem(name, split, problem)
    pictures = (Picture(path, name),)
    try:
        return answered(pictures, label, data, split=split, name=name)
    except BadRow as bad:
        return RowProblem(name, split, str(bad), bad.pictures)


def _images(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Every image below a folder, and what is wrong with a folder that cannot be read."""
    here = os.path.realpath(folder)
    if here in above:
        yield folder, f"a link back to {shown(here)}, which holds it"
        return
    if len(above) > DEEPEST:
        yield folder, f"it lies more than {DEEPEST} folders deep; allowed: CLASS/NAME, or a few folders between"
        return
    folders, images, problems = _listed(folder)
    yield from ((folder, problem) for problem in problems)
    yield from ((image, "") for image in images)
    for inside in folders:
        yield from _images(inside, (*above, here))


def _listed(folder: Path) -> tuple[list[Path], list[Path], list[str]]:
    """Sub-folders and images in the order of their names; hidden ones and other files are passed over."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        return [], [], [f"the folder cannot be read: {error.strerror}"]
    images = [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]  # noqa: PTH122
    taken = set(images)
    folders = [folder / name for name in names if name not in taken and (folder / name).is_dir()]
    return folders, [folder / name for name in images], []


def _title(path: Path, root: Path) -> str:
    return shown(str(path.relative_to(root))) or "."
