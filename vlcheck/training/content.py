"""What a run learns from, told by content: rows, base, processor and patch, wherever they lie."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlcheck.data.conversation import Conversation, Picture
from vlcheck.data.progress import Progress, counted
from vlcheck.spec import RunSpec

END_BYTES = 4096
"""Of a file: what is read at its head and at its tail, beside its size."""


def content_of(
    spec: RunSpec,
    *,
    config: Mapping[str, Any],
    processor: Any,
    conversations: Sequence[Conversation],
    evaluation: Iterable[Conversation] = (),
    patch: Callable[..., Any] | None,
    progress: Progress = lambda step: None,
) -> dict[str, str]:
    """Digests of what a run learns from, by name.

    Texts of rows are read in full; of image files and of the base's weights, the size, head and tail. A stream's
    rows are not known yet: see `Streamed.consumed`; what files hold between their ends, see `Pictures`.

    Args:
        config: the model's config.json.
        processor: the run's processor; its tokenizer, chat template and image settings count.
        conversations: every row of the training split that can be used; empty for a stream.
        evaluation: rows of the evaluation split, where these decide anything.
        progress: told how many rows were looked at.
    """
    rows = counted(conversations, "Comparing rows", progress, len(conversations))
    found = {
        "data.rows": digest_of(map(row_digest, rows)),
        "model.base": base_digest(spec, config),
        "model.processor": digest_of(_processor(processor)),
    }
    if judges := list(map(row_digest, evaluation)):
        found["data.evaluation"] = digest_of(judges)
    if patch is not None:
        found["model.patch.source"] = digest_of([_source(patch)])
    return found


def base_digest(spec: RunSpec, config: Mapping[str, Any]) -> str:
    """Digest of a run's base: its config and, where it lies in a folder, name, size and ends of each weights' file."""
    return digest_of(_base(spec, config))


def row_digest(row: Conversation, *, whole: bool = False) -> bytes:
    """SHA-256 of one row: roles, texts in full, image files by size, head and tail.

    Args:
        whole: read image files in full.
    """
    told = hashlib.sha256()
    for turn in row.turns:
        told.update(f"\0{turn.role}\0{turn.thinking}\0".encode("utf-8", "surrogatepass"))
        for part in turn.content:
            text = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else _picture(part, whole)
            told.update(len(text).to_bytes(8, "little") + text)
    return told.digest()


def pictures_digest(row: Conversation) -> int | None:
    """64 bits of the SHA-256 of a row's image files; None where it has none, or one cannot be read."""
    files = [_all(picture.source) for picture in row.pictures if isinstance(picture.source, Path)]
    if not files or b"" in files:
        return None
    return int.from_bytes(hashlib.sha256(b"".join(files)).digest()[:8], "little", signed=True) or 1


def digest_of(parts: Iterable[bytes]) -> str:
    """SHA-256 of parts, each with its length."""
    told = hashlib.sha256()
    for part in parts:
        told.update(len(part).to_bytes(8, "little") + part)
    return told.hexdigest()


def ends(file: Path) -> bytes:
    """Size, head and tail of a file; empty if it cannot be read, which is told when it is needed."""
    try:
        if not file.is_file():
            return b""
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(END_BYTES)
            opened.seek(max(len(head), size - END_BYTES))
            return size.to_bytes(8, "little") + head + opened.read(END_BYTES)
    except (OSError, ValueError):
        return b""


def _all(file: Path) -> bytes:
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except (OSError, ValueError):
        return b""


def _picture(picture: Picture, whole: bool) -> bytes:
    source = picture.source
    if isinstance(source, Path):
        return b"file" + (_all(source) if whole else ends(source))
    if isinstance(source, bytes):
        return b"file" + hashlib.sha256(source).digest()
    return f"{source.mode} {source.size}".encode() + hashlib.sha256(source.tobytes()).digest()


def _base(spec: RunSpec, config: Mapping[str, Any]) -> Iterable[bytes]:
    yield json.dumps(config, sort_keys=True, default=str).encode()
    folder = Path(spec.model.id).expanduser()
    if spec.model.weights != "random" and folder.is_dir():
        for file in sorted(folder.glob("*.safetensors")):
            yield file.name.encode()
            yield ends(file)


def _processor(processor: Any) -> Iterable[bytes]:
    tokenizer = getattr(processor, "tokenizer", processor)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        told = json.loads(backend.to_str())
        kept = {key: value for key, value in told.items() if key not in ("padding", "truncation")}  # of its last call
        yield json.dumps(kept, sort_keys=True).encode()
    else:
        yield repr(sorted(tokenizer.get_vocab().items())).encode()
    yield str(getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", "")).encode()
    images = getattr(processor, "image_processor", None)
    yield json.dumps(images.to_dict() if images is not None else {}, sort_keys=True, default=str).encode()


def _source(patch: Callable[..., Any]) -> bytes:
    try:
        file = inspect.getsourcefile(patch)
        return Path(file).read_bytes() if file else b""
    except (OSError, TypeError):
        return b""
