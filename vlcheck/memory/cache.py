"""The keys and values that a model holds while it answers rows: transformers' `DynamicCache` (5.23, cache_utils.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from vlcheck.memory.tape import Tape
from vlcheck.model.family import Family, Part

CAUSE = "keys and values of answers"


@dataclass(frozen=True)
class CachedLayer:
    """One layer of the language model that keeps its own keys and values."""

    width: int
    """Numbers of a token's key and value together."""
    window: int | None
    """Tokens that it looks back at; None is all of them."""

    def tokens(self, length: int) -> int:
        """Tokens that it holds once it has answered up to this length; its prompt it holds whole until it answers."""
        return length if self.window is None else min(length, self.window)


def cached_layers(model: nn.Module, family: Family) -> Iterator[CachedLayer]:
    """The layers of a model that keep keys and values of text: those that share another layer's keep none.

    Args:
        model: the transformers model, with adapters or without.
    """
    for name, module in model.named_modules():
        attention: Any = module
        if "layer_idx" not in vars(module) or (key := getattr(attention, "k_proj", None)) is None:
            continue
        if family.part_of(name) is not Part.LANGUAGE:
            continue
        value = getattr(attention, "v_proj", None) or key
        yield CachedLayer(key.out_features + value.out_features, getattr(attention, "sliding_window", None))


def answering(forward: Tape, layers: tuple[CachedLayer, ...], *, rows: int, prompt: int, answer: int,
              width: int) -> Tape:  # fmt: skip
    """The tape of rows that are answered: their prompts once, then token after token, a layer's cache always anew.

    Args:
        forward: of the rows without their cache, logits where a label needs one.
        prompt: tokens of a row.
        answer: tokens that may follow.
        width: bytes of a number.
    """
    tape, each = Tape(), width * rows
    held = [tape.allocate(each * layer.width * prompt, CAUSE) for layer in layers]
    tape.append(replace(forward, marks=[]))
    for block in [block for block in tape.living(len(tape.events)) if block not in held]:
        tape.release(block)
    for number, layer in enumerate(layers):
        fresh = tape.allocate(each * layer.width * layer.tokens(prompt + answer), CAUSE)
        tape.release(held[number])
        held[number] = fresh
    for block in held:
        tape.release(block)
    return tape
