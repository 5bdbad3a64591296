"""Damaged scripts and notebooks: a run or a clear refusal, soon, and nothing of them is run."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.foreign.test_mutated import hold

HOME = Path(__file__).parents[3] / "fixtures" / "scripts"
SCRIPTS = {suffix: sorted(HOME.glob(f"*.{suffix}")) for suffix in ("py", "ipynb")}
TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|\"[^\"\n]*\"|[()\[\]{}=+*/%:,.]")
PIECES = (
    "None", "True", "-1", "1e400", "10**9", "'x' * 10**9", "'%999999999d' % 1", "f'{1:>999999999}'", "[]", "{}", "()",
    "lambda: x", "x", "args", "model", "trainer", "ds", "*[1]", "**{}", "**args", "not x", "x if y else z", "a or b",
    "[a for a in b]", "{a: b for a in b}", "await x", "(yield)", "x := 3", "x[0]", "x['a']", "x.y", "x()",
    "x().train()", "int('9' * 400)", "range(10**12)", "os.environ['X']", "getattr(x, 'y')", "[0] * 3", "'a'.join(x)",
    "1 << 10000",
    "'{:{}}'.format(1, 9**9)", "dict(a=1)", "torch.float16", "return", "raise", "global x", "del model", "pass",
)  # fmt: skip
"""What a token is replaced by: values at their limits, kinds that are not expected, and statements."""


@st.composite
def damaged(draw, paths):
    """One of these files with lines moved, doubled or left out, and tokens replaced."""
    lines = draw(st.sampled_from([path.read_text() for path in paths])).split("\n")
    for _ in range(draw(st.integers(1, 8))):
        at, to = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        kind = draw(st.sampled_from(("token", "token", "token", "drop", "double", "move", "character")))
        if kind == "token" and (tokens := list(TOKEN.finditer(lines[at]))):
            token = draw(st.sampled_from(tokens))
            piece = draw(
                st.sampled_from(PIECES) | st.sampled_from([found[0] for found in TOKEN.finditer(lines[to])] or [""])
            )
            lines[at] = lines[at][: token.start()] + piece + lines[at][token.end() :]
        elif kind == "drop" and len(lines) > 2:
            del lines[at]
        elif kind == "double":
            lines.insert(to, lines[at])
        elif kind == "move":
            lines.insert(to, lines.pop(at))
        elif kind == "character":
            lines[at] = lines[at][: to % 40] + draw(st.characters()) + lines[at][to % 40 :]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mutated")


def run(folder: Path, suffix: str, count: int) -> None:
    @settings(max_examples=count, deadline=timedelta(seconds=5))
    @given(text=damaged(SCRIPTS[suffix]))
    def damage(text):
        hold(folder, suffix, text)

    damage()


@pytest.mark.parametrize("suffix", SCRIPTS)
def test_damaged_scripts(folder, suffix):
    """Twenty of each kind."""
    run(folder, suffix, 20)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SCRIPTS)
def test_many_damaged_scripts(folder, suffix):
    """Two thousand."""
    run(folder, suffix, 1_000)
