"""`# vlcheck: ignore[...]` in a config: what is a comment, for which line it speaks, and what it must say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlcheck.config.load import load
from vlcheck.config.reading.ignores import read_ignores
from vlcheck.config.reading.yaml_lines import read_yaml
from vlcheck.spec import ConfigError

IGNORE = "# vlcheck: ignore[VLC201] on purpose"


def read(tmp_path, text: str, name: str = "run.yaml"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return [(i.where.line, i.where.column, i.line, i.codes, i.reason) for i in read_ignores(str(path))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"a: 1  {IGNORE}\n", [(1, 7, 1, ("VLC201",), "on purpose")]),
        ("a: 1 #vlcheck:  ignore[vlc201 , VLC406]  x # y\r\nb: 2", [(1, 6, 1, ("VLC201", "VLC406"), "x # y")]),
        (f"  {IGNORE}\n# more\n\na: 1\nb: 2\n", [(1, 3, 4, ("VLC201",), "on purpose")]),
        (f"a: 1\n{IGNORE}\n", [(2, 1, 2, ("VLC201",), "on purpose")]),
        (f"a: |  {IGNORE}\n  text\nb: 1\n", [(1, 7, 1, ("VLC201",), "on purpose")]),
        (f"a: |\n  text {IGNORE}\n  {IGNORE}\nb: 1\n", []),
        (f"a: >-\n  text\n\n{IGNORE}\nb: 1\n", [(4, 1, 5, ("VLC201",), "on purpose")]),
        (f"a: 'x {IGNORE}'\nb: \"{IGNORE}\"\nc: x#vlcheck:ignore\n", []),
        (f"a: [1,  {IGNORE}\n  2]\n", [(1, 9, 1, ("VLC201",), "on purpose")]),
        ("a: 1  # vlcheck: see the docs\n# vlcheck is strict\n", []),
    ],
)
def test_what_is_a_comment(tmp_path, text, found):
    """Values hold none; a comment alone on its line speaks for the next one."""
    assert read(tmp_path, text) == found


@pytest.mark.parametrize(
    ("comment", "complaint"),
    [
        ("# vlcheck: ignore[VLC201]", "gives no reason"),
        ("# vlcheck: ignore[] why", "names no rule"),
        ("# vlcheck: ignore VLC201 why", "names no rule"),
        ("# vlcheck: ignored[VLC201] why", "names no rule"),
    ],
)
def test_a_comment_that_says_too_little_is_refused(tmp_path, comment, complaint):
    """With its place, and how it is written."""
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, f"a: 1\nb: 2  {comment}\n")
    (problem,) = refused.value.problems
    assert (problem.where.line, problem.where.column) == (2, 7)
    assert complaint in problem.message
    assert "allowed: # vlcheck: ignore[VLC201] and the reason" in problem.message


def test_a_shell_script_has_comments_too(tmp_path):
    """Alone above the command, or behind it."""
    text = f"#!/bin/sh\n{IGNORE}\ntrl sft --model_name_or_path a/b  {IGNORE}\n"
    assert [found[:3] for found in read(tmp_path, text, "run.sh")] == [(2, 1, 3), (3, 35, 3)]


def test_a_run_knows_what_its_config_ignores(tmp_path):
    """The run is the same; the ignores go with it."""
    path = tmp_path / "run.yaml"
    text = "model: {id: google/gemma-4-E2B-it}\nlora: {target_modules: all-linear}"
    path.write_text(text)
    plain = load(path)
    path.write_text(f"{text}  {IGNORE}\n")
    spec = load(path)

    assert spec == plain
    assert [(ignore.line, ignore.codes) for ignore in spec.ignores] == [(2, ("VLC201",))]


KEYS = st.text("abc", min_size=1, max_size=3)
PLAIN = st.text("ab #:'\"", max_size=6)


@st.composite
def documents(draw) -> tuple[str, list[int]]:
    """A YAML mapping in all styles with texts that look like ignores in it; and the lines with real ones."""
    lines: list[str] = []
    ignored = []
    for number, key in enumerate(draw(st.lists(KEYS, min_size=1, max_size=5, unique=True))):
        style = draw(st.sampled_from(["plain", "single", "double", "block", "folded", "list", "flow"]))
        real = draw(st.booleans())
        tail = f"  {IGNORE}" if real else ""
        head = len(lines) + 1
        noise = f"{draw(PLAIN)} {IGNORE}"
        lines += {
            "plain": [f"{key}: {number}{tail}"],
            "single": [f"{key}: '{noise.replace(chr(39), '')}'{tail}"],
            "double": [f'{key}: "{noise.replace(chr(34), "")}"{tail}'],
            "block": [f"{key}: |{tail}", f"  x {noise}", f"  {IGNORE}"],
            "folded": [f"{key}: >-{tail}", "  x", "", f"  {IGNORE}"],
            "list": [f"{key}:{tail}", "  - 1", f"  - '{IGNORE}'"],
            "flow": [f"{key}: {{x: [1, 2]}}{tail}"],
        }[style]
        ignored += [head] if real else []
    return "\n".join(lines) + "\n", ignored


@settings(max_examples=max(20, settings.default.max_examples // 3))
@given(documents())
def test_only_comments_ignore(document):
    """Whatever values hold, exactly the comments are found, and YAML reads the same with them."""
    import tempfile
    from pathlib import Path

    text, lines = document
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(text)
        values, _ = read_yaml(path)
        assert [ignore.line for ignore in read_ignores(str(path))] == lines
    assert sum(str(value).count("vlcheck: ignore") for value in values.values()) == text.count("vlcheck: ignore") - len(
        lines
    )
