"""The laws of the collator, on every family and with real tokenizers: quick by default, thorough on request.

`HYPOTHESIS_PROFILE=thorough pytest -m slow tests/processing/test_laws.py` draws 10,000 examples a law for Gemma 4 with
both official templates and 300 elsewhere. It writes down what it has done, so that a run that was interrupted goes
on; what it wrote counts only as long as the collator and the laws stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import vlcheck
from tests.model.families.settings import REAL, STAND_INS, Setting, setting
from tests.processing.laws import LAWS, Law

QUICK, CHUNK = 5, 100
THOROUGH = {"gemma-4 large": 10_000, "gemma-4 small": 10_000}
PROGRESS = Path(__file__).parents[2] / ".hypothesis" / "laws.json"


@pytest.fixture(params=(*STAND_INS, *REAL))
def given_setting(request) -> Setting:
    return setting(request.param)


def turns() -> list[object]:
    """Laws of settings: real tokenizers at all of them, a stand-in at every second, its neighbour at the others."""
    return [
        pytest.param(law, name, id=f"{name}-{law.name}",
                     marks=() if name in REAL or (at + number) % 2 == 0 else pytest.mark.slow)
        for at, name in enumerate((*STAND_INS, *REAL)) for number, law in enumerate(LAWS)
    ]  # fmt: skip


@pytest.mark.parametrize(("law", "name"), turns())
def test_law(law, name):
    """Each law holds, looked at a few times; a stand-in waits with half of the laws for `-m slow`."""
    hold(law, setting(name), QUICK)


@pytest.mark.slow
@pytest.mark.skipif(settings.get_current_profile_name() != "thorough", reason="HYPOTHESIS_PROFILE is not thorough")
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_law_thoroughly(law, given_setting):
    """Each law holds, looked at many times, a hundred a time, each time from another seed."""
    key, wanted = f"{law.name} {given_setting.name} {SOURCES}", THOROUGH.get(given_setting.name, 300)
    for done in range(progress().get(key, 0), wanted, CHUNK):
        hold(law, given_setting, CHUNK, start=done)
        PROGRESS.parent.mkdir(exist_ok=True)
        PROGRESS.write_text(json.dumps(progress() | {key: done + CHUNK}, indent=1))


def hold(law: Law, where: Setting, examples: int, start: int = 0) -> None:
    """Draw examples for a law and look at each."""

    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(law.strategy(where))
    def look(drawn):
        law.check(where, drawn)

    look()


def progress() -> dict[str, int]:
    """Examples already looked at, by law, setting and sources."""
    return json.loads(PROGRESS.read_text()) if PROGRESS.is_file() else {}


def _sources() -> str:
    folder = Path(vlcheck.__file__).parent
    files = [
        folder / name
        for name in (
            "processing/collator.py",
            "processing/labels.py",
            "processing/chat_template.py",
            "processing/fallback.py",
            "data/images.py",
            "data/conversation.py",
        )
    ]
    files += [*folder.glob("model/families/*.py"), *folder.glob("model/families/templates/*")]
    files += [Path(__file__).with_name("laws.py"), Path(__file__).parents[1] / "strategies.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:12]


SOURCES = _sources()
