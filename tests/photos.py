"""Small generated photos and folders of them: smooth noise has the gradients of a photo and none of its size."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Real photos, tokenizers and templates; tests that read them skip where they are not."""

BREEDS = ("beagle", "pug", "boxer")


def photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture unlike that of any other seed."""
    dots = Image.frombytes("RGB", (12, 8), random.Random(seed).randbytes(12 * 8 * 3))
    return dots.resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def write_photo(path: Path, seed: int, size: tuple[int, int] = (96, 64)) -> Path:
    """A JPEG file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(photo(seed, size), quality=90))
    return path


def write_classes(folder: Path, classes: Sequence[str] = BREEDS, *, each: int = 2, seed: int = 0) -> Path:
    """A folder a class, `each` photos in it."""
    for number, (name, index) in enumerate((name, index) for name in classes for index in range(each)):
        write_photo(folder / name / f"{index}.jpg", seed + number)
    return folder


def write_json_lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """One JSON object a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def write_csv(file: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """A header and one row a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file
