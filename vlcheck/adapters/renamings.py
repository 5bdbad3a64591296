"""How a file's keys would have to be renamed to fit a model's: pure text, in search of one simple explanation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

MOST_PREFIXES = 4
"""More would be a list of exceptions, not an explanation."""

Shapes = Mapping[str, tuple[int, ...]]


def rewrapped(unexpected: Collection[str], missing: Collection[str], wrappers: Collection[str]) -> dict[str, str]:
    """Keys that differ from the model's only by the `.linear` inside a clip wrapper.

    Args:
        unexpected: keys of the file that the model has no place for.
        missing: keys of the model that the file lacks.
        wrappers: paths of the clip wrappers in the untouched model.
    """
    ends = {f".{path}": path for path in wrappers}
    found = {}
    for key in unexpected:
        head, lora, tail = key.partition(".lora_")
        bare = head.removesuffix(".linear")
        inner = bare if bare != head else f"{head}.linear"
        if lora and f"{inner}{lora}{tail}" in missing and f".{bare.removeprefix('base_model.model.')}" in ends:
            found[key] = f"{inner}{lora}{tail}"
    return found


def prefix_changes(unexpected: Shapes, missing: Shapes) -> dict[str, str]:
    """A few changes of leading path that turn every unexpected key into a missing one; empty if there are none.

    Where several changes would do, the one that carries most keys and keeps their shapes is taken.
    """
    if len(unexpected) > len(missing):
        return {}
    left, still = dict(unexpected), dict(missing)
    found: dict[str, str] = {}
    while left:
        best = max(_changes(left, still), key=lambda change: change[0], default=None)
        if best is None or len(found) == MOST_PREFIXES:
            return {}
        _, old, new, mapped = best
        found[old] = new
        for key, renamed in mapped.items():
            del left[key], still[renamed]
    return found


def _changes(left: Shapes, missing: Shapes) -> Iterator[tuple[tuple[int, int], str, str, dict[str, str]]]:
    """Changes that carry the first key and every other key of its prefix, each with its weight."""
    first = next(iter(left)).split(".")
    tuner = _tuner_length(first)
    tried = set()
    for candidate in (key.split(".") for key in missing):
        for kept in range(_common_tail(first, candidate), tuner, -1):  # at least the module's own name stays
            old, new = first[: len(first) - kept], candidate[: len(candidate) - kept]
            if _numbers(old) != _numbers(new) or (change := (_prefix(old), _prefix(new))) in tried:
                continue  # another layer is no other name
            tried.add(change)
            mapped = {}
            for key in left:
                if key.startswith(change[0]):
                    mapped[key] = change[1] + key[len(change[0]) :]
                    if not _could_be(left[key], missing.get(mapped[key])):
                        break
            else:
                alike = sum(left[key] == missing[renamed] for key, renamed in mapped.items())
                yield (alike, len(mapped)), *change, mapped


def _prefix(parts: list[str]) -> str:
    return "".join(f"{part}." for part in parts)


def _could_be(one: tuple[int, ...], other: tuple[int, ...] | None) -> bool:
    """The same tensor, though perhaps of another rank."""
    if other is None or len(one) != len(other):
        return False
    return not one or any(a == b for a, b in zip(one, other, strict=True))


def _numbers(parts: list[str]) -> list[str]:
    return [part for part in parts if part.isdigit()]


def _common_tail(one: list[str], other: list[str]) -> int:
    length = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        length += 1
    return length


def _tuner_length(parts: list[str]) -> int:
    """How many parts at the end belong to the adapter, not to the module's path."""
    for index, part in enumerate(parts):
        if part.startswith("lora_"):
            return len(parts) - index
    return 1
