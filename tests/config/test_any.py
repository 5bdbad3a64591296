"""Whatever a config file holds, `load` gives a `RunSpec` or a `ConfigError`, and soon."""

from __future__ import annotations

import io
import string
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

import vlcheck
from vlcheck.config.load import load
from vlcheck.config.validation.allowed import keys, sections
from vlcheck.spec import ConfigError, RunSpec

STARTER = (Path(vlcheck.__file__).parent / "recipes" / "starter.yaml").read_text()
KEYS = [*sections(), *(key for hint in sections().values() for key in keys(hint)), "use_reentrant"]

words = st.sampled_from([*KEYS, "lora_r", "true", "nf4", "all-linear", "bfloat16", "a/b", "./x", "~", "~x/y"])
scalars = st.one_of(words, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)
section_values = st.one_of(
    *(
        st.dictionaries(st.sampled_from(list(keys(hint))) | words, values, max_size=5).map(
            lambda v, name=name: (name, v)
        )
        for name, hint in sections().items()
    )
)
documents = st.lists(section_values, max_size=6).map(dict) | st.dictionaries(words, values, max_size=5)
fragments = st.text(st.sampled_from("[]{}:,-?&*!|>'\"%@`#~ \t\n\\ax0.e<=\u2028\x85"), max_size=6)


@st.composite
def mutations(draw):
    """The starter with some pieces cut out, moved or replaced."""
    text = STARTER
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 30)))
        piece = draw(
            fragments | words | st.just(text[max(0, start - 20) : start]) | st.text(string.printable, max_size=4)
        )
        text = text[:start] + piece + text[stop:]
    return text


def dumped(document):
    """A document as YAML text, by way of ruamel's own writer."""
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(document, stream)
    return stream.getvalue()


def _load_anything(directory, raw):
    path = directory / "run.yaml"
    path.write_bytes(raw)
    outcome = _outcome(path)
    if isinstance(outcome, ConfigError):
        assert outcome.problems
        assert all("\n" not in problem.message and problem.where.line >= 1 for problem in outcome.problems)
        assert list(outcome.problems) == sorted(outcome.problems, key=lambda problem: problem.where)
    else:
        assert isinstance(outcome, RunSpec)
        assert outcome.sources


def _outcome(path):
    try:
        return load(path)
    except ConfigError as error:
        return error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples."""
    return tmp_path_factory.mktemp("anything")


ANYTHING = {
    "bytes": st.binary(max_size=200),
    "text": (st.text(max_size=200) | st.lists(fragments | words, max_size=30).map("".join)).map(
        lambda text: text.encode("utf-8", "replace")
    ),
    "values of any shape under known names": documents.map(lambda held: dumped(held).encode("utf-8", "surrogatepass")),
    "a damaged good config": mutations().map(str.encode),
}


@pytest.mark.parametrize("what", ANYTHING)
def test_anything(folder, what):
    """Gives a spec or a ConfigError."""
    load_many(folder, what, 40)


@pytest.mark.slow
@pytest.mark.parametrize("what", ANYTHING)
def test_much_of_anything(folder, what):
    load_many(folder, what, 2_000)


def load_many(folder, what, count):
    @settings(max_examples=count, deadline=timedelta(seconds=5))
    @given(raw=ANYTHING[what])
    def loaded(raw):
        _load_anything(folder, raw)

    loaded()
