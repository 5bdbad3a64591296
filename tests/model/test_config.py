"""A model's config comes from the first place that has it, and only a usable one comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests import tiny
from vlcheck.model.config import find_config
from vlcheck.spec import ConfigError, Location, Lora, ModelRef, RunSpec


def spec(model_id: str, revision: str | None = None) -> RunSpec:
    """A run whose model stands on line 3."""
    where = {"model.id": Location("run.yaml", 3, 7, "model.id")}
    return RunSpec(model=ModelRef(id=model_id, revision=revision), lora=Lora(), sources=where)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty Hugging Face cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(cache: Path, model_id: str, values: dict, revision: str = "main") -> None:
    """Put a config into the cache, laid out as huggingface_hub does."""
    repository = cache / f"models--{model_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(values))
    (repository / "refs").mkdir()
    (repository / "refs" / revision).write_text("a" * 40)


def test_local_folder_comes_first(tmp_path, cache):
    """A folder is read where it lies, and remembered for the weights beside its config."""
    folder = tiny.write_folder(tmp_path / "model", tiny.gemma3())
    found = find_config(spec(str(folder)), offline=True)
    assert (found.values["model_type"], found.origin, found.folder) == ("gemma3", f"local folder {folder}", folder)


def test_cache_comes_before_the_catalogue(cache):
    """A cached config wins over the embedded one of the same model."""
    cached(cache, "google/gemma-4-31B-it", tiny.gemma4())
    found = find_config(spec("google/gemma-4-31B-it"), offline=True)
    assert found.origin == "Hugging Face cache of google/gemma-4-31B-it"
    assert found.values["text_config"]["hidden_size"] == 64


def test_cached_revision_is_the_one_asked_for(cache):
    """Another revision in the cache is not taken for the one that the run names."""
    cached(cache, "google/gemma-4-31B-it", tiny.gemma4(), revision="v2")
    assert "cache" in find_config(spec("google/gemma-4-31B-it", "v2"), offline=True).origin
    assert "catalogue" in find_config(spec("google/gemma-4-31B-it", "v1"), offline=True).origin


def test_catalogue_says_when_it_goes_by_the_name(cache):
    """A mirror's config is the publisher's, and the report says so."""
    assert find_config(spec("google/gemma-4-31B-it"), offline=True).origin == "catalogue entry google/gemma-4-31B-it"
    assert find_config(spec("unsloth/gemma-4-31B-it"), offline=True).origin == (
        "catalogue entry google/gemma-4-31B-it, taken for unsloth/gemma-4-31B-it by its name"
    )


def test_unreachable_hub_is_no_error(cache, monkeypatch):
    """Online, an endpoint that does not answer falls through to the catalogue within the time limit."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "catalogue" in find_config(spec("google/gemma-4-31B-it")).origin


def test_unknown_model_is_named_with_its_neighbours(cache):
    """The message has place, value, what was tried and what exists."""
    with pytest.raises(ConfigError) as caught:
        find_config(spec("google/gemma-4-31b-int"), offline=True)
    (problem,) = caught.value.problems
    assert str(problem) == (
        "run.yaml:3:7: model.id 'google/gemma-4-31b-int' is no local folder with a config.json, not in the Hugging "
        "Face cache, the Hub was not asked (offline), and not in the catalogue; did you mean google/gemma-4-31B-it?"
    )


@pytest.mark.parametrize("name", ["google/gemma-3n-E4B", "Qwen/Qwen2-VL-72B", "google/gemma-4-32B-it", "me/pixtral"])
def test_another_version_or_size_is_never_suggested(name, cache):
    """A name that differs from a known one in a number is another model: gemma-3n is not gemma-4."""
    with pytest.raises(ConfigError) as caught:
        find_config(spec(name), offline=True)
    suggested = re.search(r"did you mean (\S+)\?", str(caught.value))
    numbers = re.findall(r"\w*\d\w*", name)
    assert suggested is None or re.findall(r"\w*\d\w*", suggested[1]) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "gemma4", "auto_map": {"AutoModel": "x.Y"}}', "needs remote code (auto_map), which vlcheck"),
        ("{}", "config.json has no model_type"),
        ('{"model_type": 4}', "config.json has no model_type"),
        ("[1, 2]", "is unreadable: not a JSON object"),
        ("{", "is unreadable: Expecting property name"),
        ("[" * 100_000, "is unreadable: "),
        ('{"a": "' + "x" * 5_000_000 + '"}', "is unreadable: larger than"),
    ],
    ids=["remote code", "no type", "wrong type", "list", "cut off", "deep", "huge"],
)
def test_unusable_config_is_one_clear_problem(text, message, tmp_path):
    """Whatever a config.json holds, nothing is run and nothing is raised but a ConfigError."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        find_config(spec(str(tmp_path)), offline=True)
    (problem,) = caught.value.problems
    assert message in str(problem)
