"""Where a run's processor comes from, and what a folder says that holds none that loads."""

from __future__ import annotations

import json
import shutil
import sys
import time

import pytest

from tests import tiny
from vlcheck.finding import Unavailable
from vlcheck.model.config import ModelConfig
from vlcheck.model.families.gemma4 import FAMILY
from vlcheck.processing import time_limit
from vlcheck.processing.fallback import build_fallback
from vlcheck.processing.processor import find_processor
from vlcheck.spec import ConfigError, Data, Lora, ModelRef, RunSpec


def find(folder, *, family=FAMILY, values=None, **data):
    """The processor of a local model folder."""
    spec = RunSpec(model=ModelRef(id=str(folder)), lora=Lora(), data=Data(**data))
    config = ModelConfig(values or json.loads((folder / "config.json").read_text()), "test", folder)
    return find_processor(spec, config, family, offline=True)


@pytest.fixture
def folder(tmp_path):
    """A folder with a config, and nothing of a processor."""
    return tiny.write_folder(tmp_path / "model", tiny.gemma4())


def save_processor(folder) -> None:
    """Put a processor's files there, as `save_pretrained` writes them, for a model without video."""
    processor = build_fallback(FAMILY, json.loads((folder / "config.json").read_text()))
    processor.tokenizer.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(processor.chat_template)


def test_without_files_a_stand_in_says_so(folder):
    """The report must say which of the two was used."""
    found = find(folder)

    assert found.fallback
    assert found.origin.startswith("stand-in for Gemma 4")


def test_files_of_a_folder_are_used_without_torchvision(folder):
    """AutoProcessor insists on a video processor; images need none."""
    save_processor(folder)

    found = find(folder)

    assert not found.fallback
    assert found.origin == f"local folder {folder}"
    assert type(found.processor).__name__ == "Gemma4Processor"


def test_a_folder_that_holds_half_a_processor_is_no_stand_in(folder):
    """What is there and does not load is a reason, never silently replaced."""
    save_processor(folder)
    (folder / "tokenizer.json").write_text("{")

    with pytest.raises(Unavailable, match=r"the processor in .* cannot be loaded"):
        find(folder)


def test_code_of_a_folder_is_not_run(folder):
    """A tokenizer that names a class in a file of its own is refused, and the file is left alone."""
    save_processor(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")

    with pytest.raises(Unavailable):
        find(folder)
    assert not (folder / "ran").exists()
    shutil.rmtree(folder)


def test_budget_is_set(folder):
    """`data.max_soft_tokens` reaches the image processor."""
    assert find(folder, max_soft_tokens=560).processor.image_processor.max_soft_tokens == 560


def test_budget_that_the_family_does_not_know(folder):
    """One error with the value seen and those allowed."""
    with pytest.raises(ConfigError, match=r"max_soft_tokens.* 300.*70, 140, 280, 560, 1120"):
        find(folder, max_soft_tokens=300)


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
LARGE = "{{ 'a' * 100000000000 }}"
BLOW_UP = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 64}


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(
    ("template", "words"), [(LOOP, "did not come to an end within 1 s"), (LARGE, "takes more than 4 GiB")]
)
def test_a_template_that_does_not_end_is_told(folder, monkeypatch, template, words):
    """In time, and without taking this process with it."""
    save_processor(folder)
    (folder / "chat_template.jinja").write_text(template)
    monkeypatch.setattr(time_limit, "SECONDS", 1.0)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=f"the chat template in .* {words}"):
        find(folder)
    assert time.monotonic() - begun < 15


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_normaliser_that_blows_up_is_told(folder, monkeypatch):
    """A word of 64 letters becomes 64 to the eighth."""
    save_processor(folder)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["normalizer"] = {"type": "Sequence", "normalizers": [BLOW_UP] * 8}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    monkeypatch.setattr(time_limit, "SECONDS", 1.0)
    with pytest.raises(Unavailable, match=r"the tokenizer in .* (did not come to an end|takes more than)"):
        find(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_template_that_refuses_is_told_where_it_is_used(folder):
    """The trial is about time and memory alone."""
    save_processor(folder)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    assert not find(folder).fallback
