"""`vlcheck show`: the row that the rules saw, as a person reads it."""

from __future__ import annotations

import json

import pytest

from tests import tiny
from tests.photos import photo
from vlcheck.collators.sample import Piece, RowView
from vlcheck.reports.sample import render_view


@pytest.fixture
def config(tmp_path):
    """A run with two rows of data."""
    tiny.write_folder(tmp_path / "model", tiny.gemma4())
    photo(0).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "label": "pug"}, {"image": "a.png", "label": "Bengal"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: {id: ./model}\nlora: {target_modules: all-linear}\n"
        "data: {path: train.jsonl, instruction: Which breed?}\n"
    )
    return path


def test_row_is_shown_whole(vlcheck, config):
    """The image is one box with its count, the answer is marked, nothing else is."""
    code, out, err = vlcheck("show", config, "--offline")

    assert (code, err) == (0, "")
    head, processor, legend, _, *rest = out.split("\n")
    assert head.startswith("train.jsonl:1: ")
    assert head.endswith("ids are supervised, by vlcheck's collator")
    assert processor.startswith("processor: stand-in for Gemma 4")
    assert legend == "{+supervised+}"
    assert rest[:3] == ["<bos><|turn>user", "<|image>[260 soft tokens]<image|>Which breed?<turn|>", "<|turn>model"]
    assert rest[3] == "{+pug<turn|>+}"


def test_control_characters_are_shown_as_escapes():
    """What a row holds cannot colour the terminal."""
    drawn = render_view(RowView("row", (Piece("supervised", "Bengal\x1b[31m\nB", 3),), "mine", "real"))

    assert drawn.endswith("{+Bengal\\x1b[31m\nB+}\n")


def test_row_that_is_not_there(vlcheck, config):
    """One error with the place, the value and those allowed."""
    code, out, err = vlcheck("show", config, "--offline", "--row", "7")

    assert (code, out) == (2, "")
    assert err.endswith("--row is 7; allowed: 0 to 1, there are no more rows\n")


def test_colours_of_a_terminal():
    """Supervised green, prompt dim, images boxed, padding grey; supervised soft tokens stand out in red."""
    pieces = (
        Piece("prompt", "Q", 1), Piece("image", "4 soft tokens", 4), Piece("supervised image", "2 soft tokens", 2),
        Piece("supervised", "pug", 1), Piece("padding", "3 padding", 3),
    )  # fmt: skip
    drawn = render_view(RowView("row", pieces, "mine", "real"), color=True)

    assert "\x1b[2mQ\x1b[0m" in drawn
    assert "\x1b[36m[4 soft tokens]\x1b[0m" in drawn
    assert "\x1b[1;37;41m[2 soft tokens]\x1b[0m" in drawn
    assert "\x1b[1;32mpug\x1b[0m" in drawn
    assert "\x1b[90m[3 padding]\x1b[0m" in drawn
