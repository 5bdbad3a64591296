"""TRL's chunked head: what it takes beside the whole logits, and its constants as the installed TRL has them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.memory.test_evaluation import VALUES
from tests.memory.test_project import H100, spec
from vlcheck.memory.head import TOKENS, WORDS
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.model.families import family_of

VOCABULARY = VALUES["text_config"]["vocab_size"]
SHAPE = Shape(rows=4, tokens=256, soft_tokens=20, supervised=200)


@cache
def simulation() -> Simulation:
    return Simulation(spec(), VALUES, family_of(VALUES))


def peak(kind: str, shape: Shape = SHAPE) -> int:
    """Bytes at the head, the largest moment there."""
    found = simulation().plan(H100, shape, replace(simulation().settings, logits=kind))
    assert (kind == "supervised") == (not found.doubts)
    return found.moments["backward of the loss"]


def test_no_word_of_the_whole_vocabulary_is_held_at_all_positions():
    """A tile in 16 bits, where logits at supervised positions are held several times, in fp32 too."""
    chunked, supervised = (peak(kind) for kind in ("chunked", "supervised"))
    positions = SHAPE.rows * SHAPE.supervised
    assert supervised - chunked > 8 * positions * (VOCABULARY - WORDS)


def test_a_longer_answer_takes_a_larger_tile():
    """Two bytes a position and word of the tile, until the tile is full."""
    short = Shape(rows=4, tokens=256, soft_tokens=20, supervised=100)
    grown = peak("chunked") - peak("chunked", short)
    assert grown == pytest.approx(2 * 400 * WORDS, rel=0.1)


def test_the_tile_is_that_of_the_installed_trl():
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    folder = Path(trl.__file__).parent
    assert f"_CHUNKED_LOGPROB_CHUNK_SIZE = {WORDS}\n" in (folder / "trainer" / "utils.py").read_text("utf-8")
    assert f"TOKEN_CHUNK_SIZE = {TOKENS}\n" in (folder / "kernels" / "chunked_logprob.py").read_text("utf-8")
