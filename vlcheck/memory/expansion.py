"""Write the tape of all layers from one on which some layers stand for others."""

from __future__ import annotations

from vlcheck.memory.layers import Layer, Layers, Unlike
from vlcheck.memory.tape import Tape


def expand(layers: Layers) -> tuple[Tape, dict[int, list[int]]]:
    """The tape with every layer's events in place, and for each old block its new ones.

    Raises:
        Unlike: if a layer is not like the one that stands for it.
    """
    layers.end()
    return _Expansion(layers).run()


class _Expansion:
    """Walks the recorded tape and writes the whole one."""

    def __init__(self, layers: Layers) -> None:
        self.layers, self.old, self.new = layers, layers.blocks.tape, Tape()
        self.now: dict[int, int] = {}
        """Old block to new block."""
        self.copies: dict[tuple[tuple[str, int], int], int] = {}
        """Layer that was not run, and the block of its model layer, to the new block."""
        self.dead: set[int] = set()
        self.made: dict[int, list[int]] = {}
        """Old block to all new blocks that it stands for."""
        self.standing: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for place, layer in layers.found.items():
            if layer.like is not None:
                self.standing.setdefault(layer.like, []).append(place)
        self.owner: dict[int, tuple[str, int]] = {}
        for place, layer in layers.found.items():
            for region in layer.regions.values():
                for block in range(region.first_block, region.last_block):
                    self.owner[block] = place

    def run(self) -> tuple[Tape, dict[int, list[int]]]:
        marks = iter([*self.old.marks, (len(self.old.events) + 1, "")])
        self.at, self.moment, self.marks = *next(marks), marks
        done = 0
        for way, place in self.layers.passes:
            layer = self.layers.found[place]
            region = layer.regions[way]
            self._copy(done, region.first_event, None)
            if layer.like is None:
                self._copy(region.first_event, region.last_event, place)
            else:
                self._imitate(layer, way)
                self._skip_marks(region.last_event)
            done = region.last_event
        self._copy(done, len(self.old.events), None)
        return self.new, self.made

    def _copy(self, first: int, last: int, inside: tuple[str, int] | None) -> None:
        """Events that were recorded where they belong."""
        for number in range(first, last):
            while self.at <= number:
                self.new.mark(self.moment)
                self.at, self.moment = next(self.marks)
            event = self.old.events[number]
            if event >= 0:
                self._birth(event)
                continue
            block = ~event
            if block in self.now:
                self._die(self.now.pop(block))
            self._release_copies(block, inside)

    def _release_copies(self, block: int, inside: tuple[str, int] | None) -> None:
        """What dies outside the layers, such as autocast's copies, dies for the layers that were not run too."""
        owner = self.owner.get(block)
        if owner is None or owner not in self.standing:
            return
        if inside is not None and inside[0] == owner[0] and abs(inside[1] - owner[1]) <= 1:
            return
        for place in self.standing[owner]:
            if (copy := self.copies.pop((place, block), None)) is not None:
                self._die(copy)

    def _die(self, block: int) -> None:
        """End a block once, under whichever name it ends first."""
        if block not in self.dead:
            self.dead.add(block)
            self.new.release(block)

    def _birth(self, block: int) -> int:
        fresh = self.new.allocate(self.old.sizes[block], self.old.causes[block])
        self.now[block] = fresh
        self.made.setdefault(block, []).append(fresh)
        return fresh

    def _imitate(self, layer: Layer, way: str) -> None:
        """Play the events of the layer that stands for this one."""
        model = self.layers.found[layer.like]  # type: ignore[index]
        if way not in model.regions:
            raise Unlike(f"{model.place} had no {way} pass")
        region, mine = model.regions[way], layer.regions[way]
        if way == "backward":
            self.new.mark(f"backward of {layer.place[0]}.{layer.place[1]}")
        for event in self.old.events[region.first_event : region.last_event]:
            if event >= 0:
                fresh = self.new.allocate(self.old.sizes[event], self.old.causes[event])
                self.copies[layer.place, event] = fresh
                self.made.setdefault(event, []).append(fresh)
            else:
                self._release_counterpart(layer, model, ~event)
        if region.boundary is not None and mine.boundary is not None:
            handed = self.copies.get((layer.place, region.boundary))
            if handed is None and self._incoming(model) == region.boundary:
                handed = self.now.get(self._incoming(layer))
            if handed is not None:
                self.now[mine.boundary] = handed

    def _incoming(self, layer: Layer) -> int:
        """The gradient that a layer gets: sums are made in place, so it may be the one that it hands on."""
        path, index = layer.place
        after = self.layers.found[path, index + 1].regions.get("backward")
        return -1 if after is None or after.boundary is None else after.boundary

    def _release_counterpart(self, layer: Layer, model: Layer, block: int) -> None:
        owner = self.owner.get(block)
        if owner is None or owner[0] != model.place[0] or abs(owner[1] - model.place[1]) > 1:
            return  # it outlives this layer: the other one came to it last
        place = (layer.place[0], layer.place[1] + owner[1] - model.place[1])
        fresh = self._counterpart(place, owner, block)
        if fresh is not None:
            self._die(fresh)

    def _counterpart(self, place: tuple[str, int], owner: tuple[str, int], block: int) -> int | None:
        """The block of one layer that plays the part of another layer's block."""
        layer = self.layers.found[place]
        if layer.like is not None:
            ways = [w for w, r in self.layers.found[owner].regions.items() if r.first_block <= block < r.last_block]
            region, way = self.layers.found[owner].regions[ways[0]], ways[0]
            like = self.layers.found[layer.like].regions[way]
            return self.copies.pop((place, like.first_block + block - region.first_block), None)
        for way, region in self.layers.found[owner].regions.items():
            if region.first_block <= block < region.last_block:
                mine = layer.regions[way].first_block + block - region.first_block
                if self.old.sizes[mine] != self.old.sizes[block]:
                    raise Unlike(f"{place} does not hold what {owner} holds")
                return self.now.pop(mine, None)
        return None

    def _skip_marks(self, event: int) -> None:
        while self.at < event:
            self.at, self.moment = next(self.marks)
