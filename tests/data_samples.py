"""For each rule of the data set scan a broken run that it catches and a sound one on which it is silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import tiny
from tests.faults import EACH, FAULTS, add, add_image, asked, image_fault, planted, turned
from tests.photos import encoded, photo, write_json_lines
from vlcheck.spec import Intent, Training


def qwen() -> dict[str, Any]:
    """A tiny model that spends a soft token on every 28 x 28 pixels."""
    return tiny.shrunken("Qwen/Qwen2.5-VL-7B-Instruct")


def twenty_to_one(folder: Path) -> None:
    """One label exactly 20 times as frequent as the rarest."""
    for _ in range(19 * EACH):
        add(folder, {"image": "train/1.jpg", "label": "pug"})


def closed_list(folder: Path) -> None:
    """A prompt that lists every label names the answer too."""
    add(folder, asked("Beagle, pug, german shepherd or épagneul?", "pug", "train/1.jpg"))


def two_questions(folder: Path) -> None:
    """The same image with another question has another answer."""
    add(folder, asked("Is this a dog?", "pug", "train/0.jpg"))


def twice_in_training(folder: Path) -> None:
    """A re-encoded copy in the same split."""
    add_image(folder, "again.jpg", encoded(photo(1), quality=40))


def absolute_path(folder: Path) -> None:
    """An absolute path to an image of the folder."""
    add(folder, {"image": str(folder / "train/1.jpg"), "label": "pug"})


def text_alone(folder: Path) -> None:
    """Rows of both splits without an image."""
    rewrite(folder, lambda number, image, label: {"messages": said("Which breed is it?", label)})


def under_another_name(folder: Path) -> None:
    """Rows whose images stand in a column that is not read, but for one."""
    rewrite(folder, lambda number, image, label: {
        "messages": said("Which breed is it?", label), "images" if number == 0 else "imgs": [image]
    })  # fmt: skip


def as_text(folder: Path) -> None:
    """Rows with one path where a list is meant."""
    rewrite(folder, lambda number, image, label: {"messages": said("<image>Which breed?", label), "images": image})


def as_llava(folder: Path) -> None:
    """Rows in LLaVA's own format."""
    rewrite(folder, lambda number, image, label: {"image": image, "conversations": [
        {"from": "human", "value": "<image>\nWhich breed?"}, {"from": "gpt", "value": label},
    ]})  # fmt: skip


def unplaced(folder: Path) -> None:
    """Rows without a placeholder."""
    rewrite(folder, lambda number, image, label: {"messages": said("Which breed?", label), "images": [image]})


def placed(folder: Path) -> None:
    """Rows with a placeholder and a list of images."""
    rewrite(folder, lambda number, image, label: {"messages": said("<image>Which breed?", label), "images": [image]})


def said(text: str, label: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": label}]


def rewrite(folder: Path, make: Callable[[int, str, str], dict[str, Any]]) -> None:
    """Every row of both splits in another form."""
    for split in ("train", "test"):
        rows = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        write_json_lines(folder / f"{split}.jsonl", [make(n, row["image"], row["label"]) for n, row in enumerate(rows)])


def sample(fault: str) -> dict[str, Any]:
    """A run that differs from the sound base in one fault of its data."""
    return {"data": planted(FAULTS[fault].plant, **dict(FAULTS[fault].fields))}


SOUND = {"data": planted()}
LLAMA_FACTORY = {
    "training": Training(gradient_checkpointing=True, framework="llamafactory"),
    "intent": Intent(vision="train", projector="freeze", language="train"),
}

BROKEN: dict[str, dict[str, Any]] = {
    "VLC501": sample("truncated JPEG"),
    "VLC502": sample("PNG named .jpg"),
    "VLC503": sample("transparent PNG"),
    "VLC504": sample("grey JPEG"),
    "VLC505": sample("16-bit PNG"),
    "VLC506": sample("EXIF turned by 90 degrees"),
    "VLC507": {"model": qwen, **sample("6 megapixels at native resolution")},
    "VLC508": sample("strip of 40:1"),
    "VLC509": sample("thumbnail"),
    "VLC510": sample("file copied to the other split"),
    "VLC511": sample("resized copy"),
    "VLC513": sample("caption in the prompt"),
    "VLC514": sample("slip of a letter"),
    "VLC515": sample("one label dominates"),
    "VLC516": sample("label that is never trained"),
    "VLC517": sample("same image, two answers"),
    "VLC518": sample("no rows to evaluate on"),
    "VLC519": sample("broken JSON"),
    "VLC520": sample("image outside the folder"),
    "VLC521": {"data": planted(text_alone)},
    "VLC522": {"data": planted(under_another_name)},
    "VLC523": {"data": planted(as_text), "framework": None},
    "VLC524": {"data": planted(as_llava), "framework": None},
    "VLC525": {"data": planted(unplaced), **LLAMA_FACTORY},
}

ALIKE: dict[str, dict[str, Any]] = {
    "VLC501": SOUND,
    "VLC502": {"data": planted(image_fault("photo.JPEG", lambda: encoded(photo(510))))},
    "VLC503": sample("alpha channel without use"),
    "VLC504": SOUND,
    "VLC505": sample("grey JPEG"),
    "VLC506": {"data": planted(image_fault("upright.jpg", lambda: turned(1)))},
    "VLC507": {"model": qwen, "data": planted(image_fault("megapixel.jpg", lambda: encoded(photo(518, (1200, 900)))))},
    "VLC508": {"data": planted(image_fault("strip.jpg", lambda: encoded(photo(520, (1000, 50)))))},
    "VLC509": {"data": planted(image_fault("small.jpg", lambda: encoded(photo(522, (28, 28)))))},
    "VLC510": sample("re-encoded copy"),
    "VLC511": {"data": planted(twice_in_training)},
    "VLC513": {"data": planted(closed_list)},
    "VLC514": SOUND,
    "VLC515": {"data": planted(twenty_to_one)},
    "VLC516": SOUND,
    "VLC517": {"data": planted(two_questions)},
    "VLC518": SOUND,
    "VLC519": SOUND,
    "VLC520": {"data": planted(absolute_path)},
    "VLC521": {"data": planted(under_another_name)},
    "VLC522": {"data": planted(placed)},
    "VLC523": {"data": planted(placed)},
    "VLC524": {"data": planted(placed)},
    "VLC525": {"data": planted(placed), **LLAMA_FACTORY},
}

EXAMINED: dict[str, tuple[tuple[int, str], ...]] = {
    "VLC501": ((48, "images decoded in full"),),
    "VLC502": ((49, "images with a format"),),
    "VLC503": ((49, "images"),),
    "VLC504": ((48, "images"),),
    "VLC505": ((49, "images"),),
    "VLC506": ((49, "images"),),
    "VLC507": ((49, "images"),),
    "VLC508": ((49, "images"),),
    "VLC509": ((49, "images"),),
    "VLC510": ((5, "evaluation images"),),
    "VLC511": ((4, "evaluation images with enough contrasts"),),
    "VLC513": ((49, "prompts"),),
    "VLC514": ((4, "labels"),),
    "VLC515": ((4, "labels of the training split"),),
    "VLC516": ((4, "labels of the evaluation split"),),
    "VLC517": ((49, "rows"),),
    "VLC518": ((2, "splits"),),
    "VLC519": ((48, "rows"),),
    "VLC520": ((49, "images"),),
    "VLC521": ((48, "rows"),),
    "VLC522": ((0, "rows without an image"),),
    "VLC523": ((48, "rows"),),
    "VLC524": ((48, "rows"),),
    "VLC525": ((48, "rows"),),
}

BESIDE: dict[str, set[str]] = {"VLC514": {"VLC517"}, "VLC523": {"VLC901"}, "VLC524": {"VLC901"}}
"""A second spelling on the same image contradicts the first; what frameworks differ on needs a run that names none."""
