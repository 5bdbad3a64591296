"""VLC5xx: rows that are read otherwise than they were meant: images in no column that is read, or in another form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.rules.rows import few, place

if TYPE_CHECKING:
    from vlcheck.config.framework_readers import Reader
    from vlcheck.data.scan import Scan
    from vlcheck.spec import RunSpec


@rule("VLC521", "images-missing", Severity.ERROR)
def images_missing(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Rows are said to hold images, and no row of a split does.

    `data.modalities` names images (it does so by default), and every row is text alone: the images stand in a
    column that is not read, or were lost on the way. Training runs, the loss falls, and the model never sees
    a picture.

    Remedy: put the images into `images`; for a run on text, `data: {modalities: [text]}`.

    Source: https://github.com/huggingface/trl/issues/4874
    """
    if "image" not in spec.data.modalities:
        raise NotApplicable("data.modalities names no images")
    yield Examined(sum(count.rows for count in scan.splits.values()), "rows")
    for split, count in scan.splits.items():
        if count.rows and count.without == count.rows:
            yield Finding(
                f"split {split!r}: 0 of {count.rows:,} rows hold an image, and data.modalities says that they do",
                where=place(spec),
                measured={"split": split, "rows": count.rows, "rows with images": 0},
                fix="data: {modalities: [text]}" if len(scan.unread) == 0 else "",
            )


@rule("VLC522", "image-column-unread", Severity.ERROR, explains=("VLC521",))
def image_column_unread(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """A column looks like images and is not read.

    Beside `messages` images are read from `images` or `image`. A column of another name (`imgs`,
    `image_path`) is passed over without a word, by this reader and by those of the frameworks.

    Remedy: rename the column to `images`.

    Source: https://github.com/huggingface/trl/issues/4874
    """
    yield Examined(sum(count.without for count in scan.splits.values()), "rows without an image")
    for column, rows in scan.unread.items():
        yield Finding(
            f"column {column!r} looks like images and is not read, in {rows.count:,} rows that hold no other image: "
            f"{few(rows.first, rows.count)}; read are images and image",
            where=place(spec),
            measured={"column": column, "rows": rows.count},
            fix=f"rename the column {column} to images",
        )


@rule("VLC523", "image-not-in-list", Severity.ERROR)
def image_not_in_list(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """`images` holds one path where a list is meant, or `image` holds null.

    A text is a sequence too: a reader that counts the images of a row counts its letters. vlcheck's own loop
    and LLaMA-Factory take it for a list of one. A null `image` beside rows that have one is a row of text to
    these two; TRL wraps it into a list of one image, which its processor refuses in the middle of the run.

    Remedy: write `["photo.jpg"]` for `"photo.jpg"`, and an empty list `images` for no image.

    Source: https://github.com/hiyouga/LLaMA-Factory/issues/5883; trl/data_utils.py, prepare_multimodal_messages
    """
    yield Examined(len(scan.rows), "rows")
    if scan.bare.count and (refusing := _refusing(spec, "bare_image")):
        yield Finding(
            f"images is one path, not a list, in {scan.bare.count:,} rows: {few(scan.bare.first, scan.bare.count)}; "
            f"{refusing}",
            where=place(spec),
            measured={"rows": scan.bare.count},
            fix="write each row's images as a list",
        )
    mixed = any(count.without < count.rows for count in scan.splits.values())
    if scan.null.count and mixed and (refusing := _refusing(spec, "null_image")):
        yield Finding(
            f"image is null in {scan.null.count:,} rows: {few(scan.null.first, scan.null.count)}; {refusing}",
            where=place(spec),
            measured={"rows": scan.null.count},
            fix="write each row's images as a list, an empty one where there is none",
        )


@rule("VLC524", "row-format", Severity.ERROR)
def row_format(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Rows are in the format of LLaVA and ShareGPT, which not every framework reads.

    `conversations` of `from` and `value`, beside an `image`. vlcheck's own loop reads them, and so does
    LLaMA-Factory where its `dataset_info.json` names the columns; TRL looks for `messages`.

    Remedy: write the rows as `messages` of role and content with a list `images`, or name the framework that
    will read them in `training.framework`.

    Source: https://github.com/hiyouga/LLaMA-Factory/issues/5883; trl/trainer/sft_trainer.py, the vision collator
    """
    yield Examined(len(scan.rows), "rows")
    if scan.foreign.count and (refusing := _refusing(spec, "conversations")):
        yield Finding(
            f"{scan.foreign.count:,} rows are `conversations` of from and value: "
            f"{few(scan.foreign.first, scan.foreign.count)}; {refusing}",
            where=place(spec),
            measured={"rows": scan.foreign.count},
            fix="write the rows as messages and images",
        )


@rule("VLC525", "placeholder-missing", Severity.ERROR)
def placeholder_missing(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Images that no placeholder asks for, in rows of a framework that wants one for each.

    LLaMA-Factory counts `<image>` in the text and stops where it is not as many as the row has images. TRL puts
    images before a text that names none, but not into a turn that is a list of parts.

    Remedy: write `<image>` where each image belongs, or an image part.

    Source: the places in vlcheck/config/framework_readers.py
    """
    from vlcheck.config.framework_readers import READERS

    reader = READERS.get(spec.training.framework or "other")
    if reader is None:
        raise NotApplicable("training.framework names no framework whose way with placeholders is known here")
    yield Examined(len(scan.rows), "rows")
    for form, rows in scan.unplaced.items():
        does = (reader.unplaced_text if form == "text" else reader.unplaced_parts).value
        if does:
            yield Finding(
                f"{rows.count:,} rows hold images that no placeholder asks for: {few(rows.first, rows.count)}; "
                f"{reader.title} {does}",
                where=place(spec),
                measured={"rows": rows.count},
                fix="write <image> into the user's text where each image belongs"
                if form == "text"
                else "put an image part into the user's turn for each image",
            )


def _refusing(spec: RunSpec, form: str) -> str:
    """What the run's framework does with such rows, or where none is named, those that do not take them; else empty."""
    from vlcheck.config.framework_readers import READERS

    named = spec.training.framework
    readers: list[Reader] = list(READERS.values()) if named is None else [READERS[named]] if named in READERS else []
    said = [f"{reader.title} {fact.value}" for reader in readers if (fact := getattr(reader, form)).value]
    return ("" if named else "training.framework is not set, and ") + "; ".join(said) if said else ""
