"""Animals that never were: five attributes each, drawn from signed distances, so that a picture is a pure function.

`vlcheck reproduce --standin` learns to name them; the stand-in was pre-trained on them.

Dimensions: N pictures, K numbers that make a scene.
"""

from __future__ import annotations

import itertools
import math
import random
from functools import cache

import torch

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "coat": ("black", "white", "orange", "brown", "grey", "golden"),
    "pattern": ("plain", "striped", "spotted", "patched"),
    "ears": ("pointed", "round", "hanging"),
    "tail": ("long", "short", "curled"),
    "muzzle": ("flat", "long"),
}
"""What can be seen of an animal."""
KINDS = tuple(itertools.product(*(range(len(values)) for values in ATTRIBUTES.values())))
"""Every combination, as indices into the values of `ATTRIBUTES`."""

NAMES = (
    "Abelund", "Barovka", "Celtimer", "Dorwick", "Eskaru", "Fennoval", "Galimor", "Hostrava", "Ibelin", "Jurasol",
    "Kestovan", "Lomarque", "Mirrow", "Nordale", "Ostreka", "Pallonde", "Quessin", "Ravelmo", "Sorrento", "Tavolin",
    "Umbrava", "Velcora", "Wendisch", "Xantippe", "Yarrowby", "Zelmont", "Ardenoise", "Brumley", "Corvash", "Dunmere",
    "Elvastan", "Farrindel", "Gostwin", "Havelock", "Islemar", "Jadovic", "Karnovel",
)  # fmt: skip
"""37 breeds, as many as Oxford-IIIT Pet has; none of them is one of its."""
APART = 2
"""Attributes in which any two breeds differ, at least: no single one decides between two of them."""

COATS = ((28, 28, 32), (243, 243, 240), (222, 112, 36), (104, 62, 34), (132, 140, 152), (232, 198, 118))
DARK_INK, LIGHT_INK = (56, 36, 26), (238, 222, 186)
INKS = (LIGHT_INK, DARK_INK, DARK_INK, LIGHT_INK, DARK_INK, DARK_INK)
GROUNDS = ((96, 150, 92), (150, 190, 222), (206, 176, 158), (170, 160, 196), (120, 170, 172), (204, 204, 172))

COLUMNS = (
    "coat", "pattern", "ears", "tail", "muzzle", "wide", "high", "size", "left", "top", "turn", "flip", "ground",
    "light", "phase", "fine", "blur", "noise",
)  # fmt: skip
"""Of a scene: five attributes by number, then everything that does not matter."""


def breeds(names: tuple[str, ...] = NAMES, seed: int = 1) -> dict[str, tuple[int, ...]]:
    """Name → attributes; the same for every run of one seed."""
    dice, found = random.Random(seed), list[tuple[int, ...]]()
    for kind in dice.sample(KINDS, len(KINDS)):
        if all(sum(a != b for a, b in zip(kind, other, strict=True)) >= APART for other in found):
            found.append(kind)
    return dict(zip(names, found, strict=False))


def scenes(kinds: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Scenes of animals of these kinds, everything that does not matter drawn anew.

    Args:
        kinds: (N, 5) indices, on the CPU.

    Returns:
        (N, K) fp32 with the columns of `COLUMNS`.
    """
    count = len(kinds)

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    aspect = 2.0 ** between(-1, 1)
    wide, high = aspect.clamp(min=1), (1 / aspect).clamp(min=1)
    size = between(0.62, 0.92)
    free_x, free_y = (wide - 0.98 * size).clamp(min=0), (high - 0.80 * size).clamp(min=0)
    return torch.stack(
        [
            *kinds.float().T, wide, high, size, between(-0.5, 0.5) * free_x, between(-0.5, 0.5) * free_y,
            between(-0.2, 0.2), torch.rand(count, generator=generator).round(), between(0, len(GROUNDS)).floor(),
            between(0.8, 1.12), between(0, 1), between(0, 1), between(1.0, 2.2), between(0, 0.04),
        ], 1,
    )  # fmt: skip


def paint(scenes_NK: torch.Tensor, x: torch.Tensor, y: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """Colours at points of pictures.

    Args:
        scenes_NK: (N, K), see `COLUMNS`.
        x: (N, ...) from the picture's middle to the right; the shorter side of a picture is 1 long.
        y: (N, ...) likewise, downwards.
        pixel: (N, 1, ...) how large a pixel is there.

    Returns:
        (N, ..., 3) between 0 and 1, of the type of `x`.
    """
    shape = (-1, *[1] * (x.dim() - 1))
    of = {name: column.view(shape) for name, column in zip(COLUMNS, scenes_NK.T, strict=True)}
    coats, inks, grounds = _palettes(x.device)
    coat, ink = (palette[of["coat"].long()].unbind(-1) for palette in (coats, inks))
    ground = grounds[of["ground"].long()].unbind(-1)

    cos, sin = of["turn"].cos(), of["turn"].sin()
    right, down = x - of["left"], y - of["top"]
    u = (cos * right + sin * down) / of["size"] * (1 - 2 * of["flip"])
    v = (cos * down - sin * right) / of["size"]
    edge = pixel * of["blur"] / of["size"]

    def cover(distance: torch.Tensor) -> torch.Tensor:
        share: torch.Tensor = (0.5 - distance / edge).clamp(0, 1)
        return share

    body = _ellipse(u, v, -0.04, 0.02, 0.27, 0.15)
    head = _circle(u, v, 0.26, -0.13, 0.12)
    legs = torch.stack([_rod(u, v, at, 0.1, at, 0.32, 0.036) for at in (-0.24, -0.14, 0.08, 0.18)]).amin(0)
    neck = _rod(u, v, 0.14, 0.0, 0.25, -0.1, 0.09)

    tail, muzzle = of["tail"], of["muzzle"]
    long_tail = _rod(u, v, -0.28, -0.02, -0.46, -0.30, 0.03)
    short_tail = _rod(u, v, -0.28, -0.03, -0.345, -0.08, 0.045)
    curled_tail = torch.minimum(
        (_circle(u, v, -0.34, -0.16, 0.085)).abs() - 0.03, _rod(u, v, -0.27, -0.0, -0.3, -0.09, 0.03)
    )
    tails = torch.where(tail == 0, long_tail, torch.where(tail == 1, short_tail, curled_tail))
    muzzles = torch.where(muzzle == 0, _circle(u, v, 0.345, -0.105, 0.06), _rod(u, v, 0.33, -0.10, 0.49, -0.06, 0.05))
    nose = torch.where(muzzle == 0, _circle(u, v, 0.40, -0.12, 0.022), _circle(u, v, 0.535, -0.065, 0.024))

    ears = of["ears"]
    pointed = torch.minimum(_triangle(u, v, 0.19, -0.19, 0.07, 0.17), _triangle(u, v, 0.31, -0.21, 0.06, 0.15))
    rounded = torch.minimum(_circle(u, v, 0.17, -0.24, 0.062), _circle(u, v, 0.33, -0.25, 0.056))
    hanging = _ellipse(u, v, 0.185, -0.06, 0.05, 0.15)

    marks = _marks(u, v, of)
    skin = cover(torch.stack([body, head, legs, neck, tails]).amin(0))
    marked = cover(torch.stack([body, head, neck]).amin(0)) * marks
    lobes = torch.where(ears == 0, pointed, rounded)
    behind, before = cover(lobes) * (ears != 2), cover(hanging) * (ears == 2)
    rim = (cover(hanging - 0.014) * (ears == 2) - before).clamp(0, 1)
    snout, tip = cover(muzzles), cover(nose)
    eye, white = cover(_circle(u, v, 0.285, -0.165, 0.018)), cover(_circle(u, v, 0.285, -0.165, 0.030))
    grain = torch.sin(x * 97.3 + 31 * of["phase"]) * torch.sin(y * 83.1 + 17 * of["fine"]) * of["noise"]
    shade = 0.10 * (y / of["high"])

    layers: list[torch.Tensor] = []
    for own, mark, far in zip(coat, ink, ground, strict=True):
        value = far + shade + grain
        value = _mixed(value, 0.85 * own, behind)
        value = _mixed(value, own, skin)
        value = _mixed(value, mark, marked)
        value = _mixed(value, 0.92 * own + 0.04, snout)
        value = _mixed(value, 0.5 * own + 0.16, rim)
        value = _mixed(value, 0.85 * own, before)
        value = _mixed(value, 0.95, white)
        value = _mixed(value, 0.05, torch.maximum(eye, tip))
        layers.append((value * of["light"]).clamp(0, 1))
    return torch.stack(layers, -1)


def _marks(u: torch.Tensor, v: torch.Tensor, of: dict[str, torch.Tensor]) -> torch.Tensor:
    """How far a point of the coat is covered by its pattern."""
    stripes = 0.5 + 0.5 * torch.sin((u + 0.25 * v + of["phase"]) * (44 + 10 * of["fine"]))
    across = (u + 10 + of["phase"] * 0.11) / (0.10 + 0.02 * of["fine"])
    along = (v + 10) / (0.10 + 0.02 * of["fine"])
    across = across + 0.5 * (along.floor() % 2)
    spots = ((across - across.floor() - 0.5) ** 2 + (along - along.floor() - 0.5) ** 2).sqrt()
    blobs = torch.sin(u * 11 + 6.3 * of["phase"]) + torch.sin(v * 13 + 6.3 * of["fine"]) + 0.6 * torch.sin((u - v) * 9)
    return torch.where(
        of["pattern"] == 1, ((stripes - 0.55) * 6).clamp(0, 1),
        torch.where(of["pattern"] == 2, ((0.30 - spots) * 12).clamp(0, 1), ((blobs - 0.35) * 5).clamp(0, 1)),
    ) * (of["pattern"] > 0)  # fmt: skip


def _mixed(below: torch.Tensor, above: torch.Tensor | float, share: torch.Tensor) -> torch.Tensor:
    return below + (above - below) * share


@cache
def _palettes(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Colours of coats, inks and grounds; made once, since a graph can hold no copy from the host."""
    return tuple(torch.tensor(colours, device=device) / 255 for colours in (COATS, INKS, GROUNDS))


def _circle(u: torch.Tensor, v: torch.Tensor, at: float, up: float, radius: float) -> torch.Tensor:
    return ((u - at) ** 2 + (v - up) ** 2).sqrt() - radius


def _ellipse(u: torch.Tensor, v: torch.Tensor, at: float, up: float, wide: float, high: float) -> torch.Tensor:
    return ((((u - at) / wide) ** 2 + ((v - up) / high) ** 2).sqrt() - 1) * min(wide, high)


def _rod(u: torch.Tensor, v: torch.Tensor, at: float, up: float, to: float, down: float, radius: float) -> torch.Tensor:
    wide, high = to - at, down - up
    along = (((u - at) * wide + (v - up) * high) / (wide**2 + high**2)).clamp(0, 1)
    return ((u - at - along * wide) ** 2 + (v - up - along * high) ** 2).sqrt() - radius


def _triangle(u: torch.Tensor, v: torch.Tensor, at: float, base: float, half: float, high: float) -> torch.Tensor:
    """Standing on its base, its tip up."""
    slope = math.hypot(half, high)
    side = ((u - at).abs() * high + (v - base + high) * -half) / slope
    return torch.maximum(side, v - base)


def photo(scene_K: torch.Tensor, shorter: int) -> torch.Tensor:
    """A picture as a camera would give it, (H, W, 3) uint8; `shorter` is its shorter side in pixels."""
    of = dict(zip(COLUMNS, scene_K.tolist(), strict=True))
    width, height = round(of["wide"] * shorter), round(of["high"] * shorter)
    x = ((torch.arange(width) + 0.5) / width - 0.5) * of["wide"]
    y = ((torch.arange(height) + 0.5) / height - 0.5) * of["high"]
    pixel = torch.full((1, 1, 1), 1 / shorter)
    colours = paint(
        scene_K[None], x[None, None, :].expand(1, height, width), y[None, :, None].expand(1, height, width), pixel
    )
    return (colours[0] * 255).round().to(torch.uint8)
