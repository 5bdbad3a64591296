"""Rows that are conversations already: `messages` as of OpenAI and TRL, `conversations` as of LLaVA and ShareGPT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from vlcheck.config.reading.quoting import quoted
from vlcheck.data.conversation import BadRow, Content, Conversation, Picture, Turn
from vlcheck.data.sources.images import looks_like, picture_of, pictures_of
from vlcheck.data.sources.row import Row, RowForm, sound_text

PLACEHOLDER = "<image>"
"""Where a text says that an image belongs, in rows that list their images beside the messages."""


IMAGE_COLUMNS = ("images", "image")
"""Columns beside the messages that images are read from; the first that holds any."""

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""Who speaks in `conversations`, the format of LLaVA and ShareGPT."""


def message_row(values: Mapping[str, Any], *, split: str, name: str, folder: Path | None) -> Row:
    """Make a row of `messages`, or of LLaVA's `conversations`, and the images beside them.

    Raises:
        BadRow: if the messages are no conversation, or their images do not add up.
    """
    shape: Literal["messages", "conversations"] = "messages" if "messages" in values else "conversations"
    messages = values[shape]
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        raise BadRow(f"{shape} is {quoted(_kind(messages))}; allowed: a list of objects with role and content")
    if shape == "conversations":
        messages = [_spoken(message) for message in messages]
    column = next((column for column in IMAGE_COLUMNS if values.get(column)), "")
    listed = values.get(column) or ()
    images = pictures_of(listed if isinstance(listed, list | tuple) else [listed], folder, name)
    waiting = iter(images)
    shown = any(column in values for column in IMAGE_COLUMNS)
    turns = tuple(_turn(message, waiting, shown, folder, name) for message in messages)
    left = tuple(waiting)
    if left:
        if len(left) < len(images):
            raise BadRow(f"{len(images)} images for {len(images) - len(left)} placeholders", images)
        turns = _shown_first(turns, left)
    asked = [message.get("content") for message in messages if message.get("role") == "user"]
    form = RowForm(
        shape=shape,
        bare="" if isinstance(listed, list | tuple) or column != "images" else column,
        null="images" not in values and "image" in values and values["image"] is None,
        unplaced="" if not left else "text" if all(isinstance(content, str) for content in asked) else "parts",
        unread=tuple(key for key, value in values.items() if key not in (shape, *IMAGE_COLUMNS) and looks_like(value)),
    )
    try:
        return Row(Conversation(turns, name), split, form)
    except ValueError as refused:
        raise BadRow(str(refused).removeprefix(f"{name}: "), images) from None


def _turn(message: Mapping[str, Any], waiting: Iterator[Picture], listed: bool, folder: Path | None, name: str) -> Turn:
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant"):
        raise BadRow(f"role is {quoted(role)}; allowed: system, user, assistant")
    thinking = message.get("reasoning_content") or message.get("thinking") or ""
    if not isinstance(thinking, str):
        raise BadRow(f"thinking is {quoted(_kind(thinking))}; allowed: text")
    if isinstance(content, str):
        parts = _split(content, waiting) if listed and role == "user" else iter((content,))
    elif isinstance(content, list):
        parts = (_part(part, waiting, folder, name) for part in content)
    else:
        raise BadRow(f"content of a {role} message is {quoted(_kind(content))}; allowed: text, or a list of parts")
    said = tuple(part for part in parts if part != "")
    for text in (*said, thinking):
        if isinstance(text, str):
            sound_text(text, f"a {role} message")
    if role == "assistant" and not any(isinstance(part, str) and part.strip() for part in said):
        raise BadRow("an assistant message is empty; allowed: text")
    return Turn(role, said, thinking)


def _spoken(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A turn of `conversations` (from, value) as one of `messages`."""
    if "from" not in message:
        return message
    speaker = message["from"]
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise BadRow(f"from is {quoted(_kind(speaker))}; allowed: {', '.join(ROLES)}")
    return {"role": role, "content": message.get("value")}


def _part(part: Any, waiting: Iterator[Picture], folder: Path | None, name: str) -> Content:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind not in ("image", "image_url"):
        raise BadRow(f"a part of type {quoted(kind)}; allowed: text (with its text), image, image_url")
    for key in ("image", "image_url", "path", "url"):
        if part.get(key) is not None:
            return picture_of(part[key], folder, name)
    return _next(waiting)


def _split(text: str, waiting: Iterator[Picture]) -> Iterator[Content]:
    """A text with `<image>` where its images belong."""
    first, *others = text.split(PLACEHOLDER)
    yield first
    for other in others:
        yield _next(waiting)
        yield other.removeprefix("\n")


def _next(waiting: Iterator[Picture]) -> Picture:
    picture = next(waiting, None)
    if picture is None:
        raise BadRow("more image placeholders than images")
    return picture


def _shown_first(turns: tuple[Turn, ...], pictures: tuple[Picture, ...]) -> tuple[Turn, ...]:
    """Put images that no placeholder asks for before the first user turn's text, as TRL does."""
    for number, turn in enumerate(turns):
        if turn.role == "user":
            return (*turns[:number], Turn("user", (*pictures, *turn.content)), *turns[number + 1 :])
    raise BadRow(f"{len(pictures)} images and no user message to show them in", pictures)


def _kind(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else type(value).__name__
