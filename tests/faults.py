"""Faults of data sets, each planted into the same sound data: 44 generated photos to train on, 4 to evaluate on."""

from __future__ import annotations

import io
import json
import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance

from tests.photos import encoded, photo, write_json_lines, write_photo
from vlcheck.spec import Data

LABELS = ("beagle", "pug", "german_shepherd", "épagneul")
EACH = 11
INSTRUCTION = "Which breed is this?"
TURNED_BY = 0x0112


def planted(plant: Callable[[Path], object] | None = None, **fields: object) -> Callable[[Path], Data]:
    """Data for a sample: sound, but for what is planted; written when the sample's folder is known."""

    def write(folder: Path) -> Data:
        write_sound(folder)
        if plant is not None:
            plant(folder)
        return data_of(folder, **fields)

    return write


def data_of(folder: Path, **fields: object) -> Data:
    """The data section of a run on such a folder."""
    return Data(**{"path": str(folder), "eval_split": "test", "instruction": INSTRUCTION, **fields})


def write_sound(folder: Path) -> Path:
    """44 rows to train on, 4 to evaluate on, four labels."""
    for split, each, seed in (("train", EACH, 0), ("test", 1, 1000)):
        rows = []
        for number in range(each * len(LABELS)):
            name = f"{split}/{number}.jpg"
            write_photo(folder / name, seed + number)
            rows.append({"image": name, "label": LABELS[number % len(LABELS)]})
        write_json_lines(folder / f"{split}.jsonl", rows)
    return folder


def add(folder: Path, row: dict | bytes, split: str = "train") -> str:
    """Append a row; returns its name."""
    file = folder / f"{split}.jsonl"
    with file.open("ab") as stream:
        stream.write((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n")
    return f"{split}.jsonl:{len(file.read_bytes().splitlines())}"


def add_image(folder: Path, name: str, content: bytes, split: str = "train") -> str:
    """Append a row with this image file."""
    (folder / name).write_bytes(content)
    return add(folder, {"image": name, "label": "pug"}, split)


def image_fault(name: str, content: Callable[[], bytes], split: str = "train") -> Callable[[Path], str]:
    return lambda folder: add_image(folder, name, content(), split)


def row_fault(row: dict | bytes, split: str = "train") -> Callable[[Path], str]:
    return lambda folder: add(folder, row, split)


def entry_fault(name: str, make: Callable[[Path], object]) -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        make(folder / name)
        return add(folder, {"image": name, "label": "pug"})

    return plant


def asked(text: str, answer: str, image: str = "train/0.jpg") -> dict:
    user = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}
    return {"messages": [user, {"role": "assistant", "content": answer}]}


# --------------------------------------------------------------------------- images that carry a fault


def bomb() -> bytes:
    """A PNG whose header says 50,000 x 50,000."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(body)) + b"IDAT" + body + bytes(4)


def cut(form: str) -> bytes:
    content = encoded(photo(500), form)
    return content[: len(content) // 2]


def with_alpha(lowest: int) -> Image.Image:
    image = photo(501).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size).point(lambda value: max(value, lowest)))
    return image


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[TURNED_BY] = orientation
    return encoded(photo(502), exif=exif)


def sixteen_bits() -> Image.Image:
    return photo(503).convert("I").point(lambda value: value * 256).convert("I;16")


def see_through_palette() -> bytes:
    return encoded(photo(504).quantize(32), "PNG", transparency=0)


def trained(number: int) -> Image.Image:
    """A training photo as its file shows it."""
    return Image.open(io.BytesIO(encoded(photo(number), quality=90)))


def watermarked() -> bytes:
    image = trained(7)
    ImageDraw.Draw(image).text((20, 25), "stock.example", fill="white")
    return encoded(image)


def eps() -> bytes:
    return encoded(photo(505), "EPS")


# --------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Fault:
    """What is planted, and the code that must say its row; `beside` are further true things about it."""

    plant: Callable[[Path], str]
    code: str
    beside: frozenset[str] = frozenset()
    fields: tuple[tuple[str, object], ...] = ()


def many_pugs(folder: Path) -> str:
    """One label 21 times as frequent as another."""
    for _ in range(20 * EACH + 1):
        add(folder, {"image": "train/1.jpg", "label": "pug"})
    return "train.jsonl:1 "  # the first row of a rarest label


def no_test_split(folder: Path) -> str:
    (folder / "test.jsonl").unlink()
    return "'test' holds 0 rows"


FAULTS: dict[str, Fault] = {
    # image files that are none
    "truncated JPEG": Fault(image_fault("cut.jpg", lambda: cut("JPEG")), "VLC501"),
    "truncated PNG": Fault(image_fault("cut.png", lambda: cut("PNG")), "VLC501"),
    "truncated WebP": Fault(image_fault("cut.webp", lambda: cut("WEBP")), "VLC501"),
    "zero-byte file": Fault(image_fault("empty.jpg", lambda: b""), "VLC501"),
    "HTML named .jpg": Fault(image_fault("page.jpg", lambda: b"<!doctype html><title>404</title>"), "VLC501"),
    "PostScript named .jpg": Fault(image_fault("script.jpg", eps), "VLC501"),
    "50,000 x 50,000 PNG header": Fault(image_fault("bomb.png", bomb), "VLC501"),
    "no such file": Fault(row_fault({"image": "gone.jpg", "label": "pug"}), "VLC501"),
    "folder named .jpg": Fault(entry_fault("folder.jpg", Path.mkdir), "VLC501"),
    "symlink loop": Fault(entry_fault("loop.jpg", lambda path: path.symlink_to(path.name)), "VLC501"),
    "named pipe": Fault(entry_fault("pipe.jpg", os.mkfifo), "VLC501"),
    "name too long": Fault(row_fault({"image": "x" * 5000, "label": "pug"}), "VLC501"),
    # image files that are not what they seem
    "PNG named .jpg": Fault(image_fault("png.jpg", lambda: encoded(photo(510), "PNG")), "VLC502"),
    "JPEG named .png": Fault(image_fault("jpeg.png", lambda: encoded(photo(511))), "VLC502"),
    "WebP named .jpeg": Fault(image_fault("webp.jpeg", lambda: encoded(photo(512), "WEBP")), "VLC502"),
    "GIF named .jpg": Fault(
        image_fault("gif.jpg", lambda: encoded(photo(513), "GIF")), "VLC502", frozenset({"VLC504"})
    ),
    "transparent PNG": Fault(image_fault("alpha.png", lambda: encoded(with_alpha(0), "PNG")), "VLC503"),
    "palette with a transparent colour": Fault(image_fault("see.png", see_through_palette), "VLC503"),
    "alpha channel without use": Fault(image_fault("opaque.png", lambda: encoded(with_alpha(255), "PNG")), "VLC504"),
    "palette PNG": Fault(image_fault("palette.png", lambda: encoded(photo(514).quantize(64), "PNG")), "VLC504"),
    "grey JPEG": Fault(image_fault("grey.jpg", lambda: encoded(photo(515).convert("L"))), "VLC504"),
    "CMYK JPEG": Fault(image_fault("cmyk.jpg", lambda: encoded(photo(516).convert("CMYK"))), "VLC504"),
    "16-bit PNG": Fault(image_fault("deep.png", lambda: encoded(sixteen_bits(), "PNG")), "VLC505"),
    "floating point TIFF": Fault(image_fault("f.tiff", lambda: encoded(photo(517).convert("F"), "TIFF")), "VLC505"),
    "EXIF turned by 90 degrees": Fault(image_fault("side.jpg", lambda: turned(6)), "VLC506"),
    "EXIF upside down": Fault(image_fault("down.jpg", lambda: turned(3)), "VLC506"),
    "EXIF mirrored": Fault(image_fault("mirror.jpg", lambda: turned(2)), "VLC506"),
    # sizes
    "6 megapixels at native resolution": Fault(
        image_fault("large.jpg", lambda: encoded(photo(518, (3000, 2000)))), "VLC507"
    ),
    "more soft tokens than max_length": Fault(
        image_fault("wide.jpg", lambda: encoded(photo(519, (640, 480)))), "VLC507", fields=(("max_length", 256),)
    ),
    "strip of 40:1": Fault(image_fault("strip.jpg", lambda: encoded(photo(520, (2000, 50)))), "VLC508"),
    "tower of 1:30": Fault(image_fault("tower.jpg", lambda: encoded(photo(521, (40, 1200)))), "VLC508"),
    "thumbnail": Fault(image_fault("thumb.jpg", lambda: encoded(photo(522, (20, 20)))), "VLC509"),
    "three pixels high": Fault(image_fault("line.jpg", lambda: encoded(photo(523, (40, 3)))), "VLC509"),
    # the same image in both splits
    "file copied to the other split": Fault(
        image_fault("copy.jpg", lambda: encoded(photo(5), quality=90), "test"), "VLC510"
    ),
    "same pixels in another format": Fault(
        image_fault("same.png", lambda: encoded(trained(5), "PNG"), "test"), "VLC510"
    ),
    "training split evaluated": Fault(
        lambda folder: "'train' is the training split", "VLC510", fields=(("eval_split", "train"),)
    ),
    "re-encoded copy": Fault(image_fault("again.jpg", lambda: encoded(trained(5), quality=40), "test"), "VLC511"),
    "resized copy": Fault(
        image_fault("half.jpg", lambda: encoded(trained(5).resize((64, 43)), quality=85), "test"), "VLC511"
    ),
    "brightened copy": Fault(
        image_fault("light.jpg", lambda: encoded(ImageEnhance.Brightness(trained(5)).enhance(1.1)), "test"), "VLC511"
    ),
    "watermarked copy": Fault(image_fault("mark.jpg", watermarked, "test"), "VLC511"),
    # answers
    "caption in the prompt": Fault(row_fault(asked("A photo of a beagle. Which breed?", "beagle")), "VLC513"),
    "caption in other words": Fault(
        row_fault(asked("GERMAN  SHEPHERD on grass: which breed?", "german_shepherd", "train/2.jpg")), "VLC513"
    ),
    "file name in the prompt": Fault(
        lambda folder: (
            write_photo(folder / "xbeagle_pug_12.jpg", 530),
            add(folder, asked("File xbeagle_pug_12: which breed?", "pug", "xbeagle_pug_12.jpg")),
        )[1],
        "VLC513",
    ),
    "other case": Fault(row_fault({"image": "train/1.jpg", "label": "Pug"}), "VLC514", frozenset({"VLC517"})),
    "trailing space": Fault(row_fault({"image": "train/1.jpg", "label": "pug "}), "VLC514", frozenset({"VLC517"})),
    "space for underscore": Fault(
        row_fault({"image": "train/2.jpg", "label": "german shepherd"}), "VLC514", frozenset({"VLC517"})
    ),
    "other Unicode form": Fault(
        row_fault({"image": "train/3.jpg", "label": unicodedata.normalize("NFD", "épagneul")}),
        "VLC514", frozenset({"VLC517"}),
    ),
    "slip of a letter": Fault(row_fault({"image": "train/0.jpg", "label": "beagel"}), "VLC514", frozenset({"VLC517"})),
    "one label dominates": Fault(many_pugs, "VLC515"),
    "label that is never trained": Fault(
        lambda folder: (
            write_photo(folder / "cat.jpg", 531), add(folder, {"image": "cat.jpg", "label": "siamese"}, "test")
        )[1],
        "VLC516",
    ),
    "same image, two answers": Fault(row_fault({"image": "train/0.jpg", "label": "pug"}), "VLC517"),
    # rows
    "no rows to evaluate on": Fault(no_test_split, "VLC518"),
    "broken JSON": Fault(row_fault(b'{"image": "train/0.jpg", "label": '), "VLC519"),
    "no UTF-8": Fault(row_fault(b'{"image": "train/0.jpg", "label": "\xe9"}'), "VLC519"),
    "unpaired surrogate": Fault(row_fault({"image": "train/0.jpg", "label": "pug\ud83d"}), "VLC519"),
    "control character": Fault(row_fault({"image": "train/0.jpg", "label": "pug\x07"}), "VLC519"),
    "surrogate in a path": Fault(row_fault({"image": "train/\udc00.jpg", "label": "pug"}), "VLC519"),
    "image on the web": Fault(row_fault({"image": "https://example.org/1.jpg", "label": "pug"}), "VLC519"),
    "no answer": Fault(row_fault({"image": "train/0.jpg", "label": ""}), "VLC519"),
    "no answer column": Fault(row_fault({"image": "train/0.jpg", "breed": "pug"}), "VLC519"),
    "placeholder without image": Fault(
        row_fault({"messages": [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant",
                                                                                 "content": "pug"}]}),
        "VLC519",
    ),
    "image outside the folder": Fault(
        lambda folder: (
            write_photo(folder.parent / "elsewhere.jpg", 532),
            add(folder, {"image": "../elsewhere.jpg", "label": "pug"}),
        )[1],
        "VLC520",
    ),
}  # fmt: skip
