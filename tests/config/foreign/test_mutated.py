"""Damaged configs of every format: a run or a clear refusal, soon, and nothing of them is run, imported or fetched."""

from __future__ import annotations

import json
import socket
import string
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlcheck.config.foreign import axolotl, llamafactory, ms_swift, trl
from vlcheck.config.foreign.huggingface import ADAPTER_KEYS
from vlcheck.config.load import load
from vlcheck.config.native_text import write_native
from vlcheck.spec import ConfigError, RunSpec

HOME = Path(__file__).parents[3] / "fixtures" / "configs"
FORMATS = {
    "trl.yaml": sorted(HOME.glob("trl/*/*.yaml")),
    "axolotl.yaml": sorted(HOME.glob("axolotl/*/*.yaml")),
    "llamafactory.yaml": sorted(HOME.glob("llamafactory/*/*.yaml")),
    "ms-swift.yaml": sorted(HOME.glob("ms-swift/*/*.yaml")),
    "sh": sorted(HOME.glob("*/*/*.sh")),
    "json": sorted(HOME.glob("transformers/*/*/*.json")),
}
KEYS = sorted({*trl.KEYS, *axolotl.KEYS, *llamafactory.KEYS, *ms_swift.KEYS})
PIECES = st.one_of(
    st.sampled_from([*KEYS, *ADAPTER_KEYS]).map(lambda key: f"\n{key}: "),
    st.sampled_from(KEYS).map(lambda key: f" --{key} "),
    st.sampled_from(
        ["null", "true", "[]", "{}", "1e400", "-1", '"', "'", "${X", "$(id)", "\\\n", "&a", "*a", "()", "<<"]
    ),
    st.text(string.printable, max_size=4),
    st.text(max_size=3),
)


@st.composite
def mutations(draw, paths):
    """One of these files with some pieces cut out, doubled or replaced."""
    text = draw(st.sampled_from([path.read_text() for path in paths]))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 40)))
        text = text[:start] + draw(PIECES | st.just(text[start:stop] * 2)) + text[stop:]
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples, with a sound adapter beside the arguments and LLaMA-Factory's table of data."""
    home = tmp_path_factory.mktemp("mutated")
    (home / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a/b"}))
    (home / "data").mkdir()
    (home / "data" / "dataset_info.json").write_bytes((HOME / "llamafactory/good/data/dataset_info.json").read_bytes())
    return home


def outcome(path: Path) -> RunSpec | ConfigError:
    try:
        return load(path)
    except ConfigError as error:
        return error


def hold(folder: Path, suffix: str, text: str) -> None:
    """What a damaged file gives: problems of one line each, or a run that survives being written and read again."""
    path = folder / f"run.{suffix}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    spec = outcome(path)
    if isinstance(spec, ConfigError):
        assert spec.problems
        assert all("\n" not in problem.message and problem.where.line >= 1 for problem in spec.problems)
        return
    (folder / "native.yaml").write_text(write_native(spec, path.name))
    assert load(folder / "native.yaml") == spec


@pytest.fixture(autouse=True, scope="module")
def _offline():
    """A connection would fail the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a config was fetched"))
        yield


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files(folder, suffix):
    """Twenty of each format."""
    run(folder, suffix, 20)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_many_damaged_files(folder, suffix):
    run(folder, suffix, 5_000)


def run(folder: Path, suffix: str, count: int) -> None:
    @settings(max_examples=count, deadline=timedelta(seconds=5))
    @given(text=mutations(FORMATS[suffix]))
    def damaged(text):
        hold(folder, suffix, text)

    damaged()
