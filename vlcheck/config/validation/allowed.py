"""What the native config allows, read from the annotations of `RunSpec` and put into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Len, Lt

from vlcheck.spec import RunSpec

_NOUNS = {str: ("string", "strings"), int: ("integer", "integers"), float: ("finite number", "finite numbers")}


@cache
def sections() -> Mapping[str, Any]:
    """The sections of a config and their annotations, in the order of `RunSpec`."""
    hints = get_type_hints(RunSpec, include_extras=True)
    return {name: hint for name, hint in hints.items() if name not in ("sources", "origin", "ignores")}


@cache
def keys(annotation: Any) -> Mapping[str, Any]:
    """The keys a mapping of this annotation may have, with their annotations; none if it is no section."""
    for arm in _arms(annotation):
        if is_dataclass(arm):
            hints = get_type_hints(arm, include_extras=True)
            return {field.name: hints[field.name] for field in fields(arm)}
    return {}


def inside(annotation: Any, part: str | int) -> Any | None:
    """The annotation of one key or item of a value; None if such a value has no parts of this sort."""
    for arm in _arms(annotation):
        if isinstance(part, int) and get_origin(arm) is tuple:
            return get_args(arm)[0]
        origin = get_origin(arm)
        if isinstance(part, str) and isinstance(origin, type) and issubclass(origin, Mapping):
            return get_args(arm)[1]
    return keys(annotation).get(part) if isinstance(part, str) else None


def at(path: Iterable[str | int]) -> Any | None:
    """The annotation of a key path, such as `("lora", "target_modules", 0)`."""
    first, *rest = path
    annotation = sections().get(str(first))
    for part in rest:
        annotation = None if annotation is None else inside(annotation, part)
    return annotation


def words(annotation: Any) -> str:
    """Say which values an annotation allows, for example `an integer from 1 to 65536`."""
    arms = _split(annotation)
    return ", or ".join(_phrase(base, limits) for base, limits in arms)


def accepts(annotation: Any, kind: type) -> bool:
    """Tell whether a value of this plain type can be right."""
    return any(base is kind for base, _ in _split(annotation))


def choices(annotation: Any) -> tuple[str, ...]:
    """The literals an annotation lists."""
    return tuple(str(name) for arm in _arms(annotation) if get_origin(arm) is Literal for name in get_args(arm))


def _arms(annotation: Any) -> list[Any]:
    return [base for base, _ in _split(annotation)]


def _split(annotation: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """The arms of a union, each with its limits."""
    limits: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        limits = tuple(metadata)
    if get_origin(annotation) in (Union, UnionType):
        return [arm for part in get_args(annotation) for arm in _split(part)]
    return [(annotation, limits)]


def _phrase(base: Any, limits: tuple[Any, ...]) -> str:
    if base in (bool, NoneType):
        return "true or false" if base is bool else "null"
    if base in _NOUNS:
        noun = _NOUNS[base][0]
        return f"{'an' if noun[0] == 'i' else 'a'} {noun}{_range(limits)}"
    if get_origin(base) is Literal:
        return "one of " + ", ".join(map(str, get_args(base)))
    if get_origin(base) is tuple:
        return f"a list of {_range(limits, unit='').strip()}{' ' if limits else ''}{_plural(get_args(base)[0])}"
    if keys(base):
        names = list(keys(base))
        return "a mapping with keys " + ", ".join(names[:6] + ["…"] * (len(names) > 6))
    return f"a mapping of names to {_plural(get_args(base)[1])}"


def _plural(annotation: Any) -> str:
    ((base, limits),) = _split(annotation)
    if base is str:
        return "strings"
    if base in _NOUNS:
        return _NOUNS[base][1] + _range(limits)
    return "values among " + ", ".join(map(str, get_args(base)))


def _range(limits: tuple[Any, ...], unit: str = " characters") -> str:
    parts = []
    for limit in limits:
        match limit:
            case Len(min_length=low, max_length=high):
                parts.append(f" of {low} to {high}{unit}" if unit else f"{low} to {high}")
            case Ge(ge=low):
                parts.append(f" from {low}")
            case Gt(gt=low):
                parts.append(f" above {low}")
            case Le(le=high):
                parts.append(f" to {high}" if isinstance(limits[0], Ge) else f" and at most {high}")
            case Lt(lt=high):
                parts.append(f" to below {high}")
    return "".join(parts)
