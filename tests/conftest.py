"""What tests of several folders share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vlcheck.cli.app import main


@pytest.fixture(autouse=True, scope="session")
def pictures_are_cut_up_once() -> Iterator[None]:
    """Image processors of transformers remember; where no test file has imported it, there is nothing to save."""
    with pytest.MonkeyPatch.context() as patch:
        if "transformers" in sys.modules:
            from transformers.image_processing_utils import BaseImageProcessor

            from vlcheck.collators.remembered import remembering

            patch.setattr(BaseImageProcessor, "__call__", remembering(BaseImageProcessor.__call__))
        yield


@pytest.fixture(autouse=True, scope="module")
def tiny_models_are_built_once() -> Iterator[None]:
    """The models that take a batch are the same for the same config and ids, and keep what they answered.

    For the tests of one file, and where it has imported them: what a model keeps is given up with the file.
    """
    with pytest.MonkeyPatch.context() as patch:
        if "vlcheck.evidence.labels" in sys.modules:
            from vlcheck.collators import tiny_model
            from vlcheck.evidence import labels

            patch.setattr(tiny_model, "BATCHES", 16)
            patch.setattr(labels, "build_batch_model", built_once(tiny_model.build_batch_model))
        yield


def built_once(build: Callable[..., Any]) -> Callable[..., Any]:
    """`build_batch_model` with a memory: the key is all that it reads of config and processor."""
    held: dict[Any, Any] = {}

    def built(values: Any, family: Any, processor: Any) -> Any:
        tokenizer = processor.tokenizer
        soft = tokenizer.convert_tokens_to_ids(family.dialogue.image_tokens[0]) if family.dialogue else None
        others = tuple(getattr(processor, f"{kind}_token", None) for kind in ("video", "audio"))
        ids = tokenizer.convert_tokens_to_ids([token for token in others if token])
        key = (json.dumps(values, sort_keys=True, default=repr), family.name, soft, len(tokenizer),
               tuple(tokenizer.added_tokens_decoder), others, tuple(ids))  # fmt: skip
        if key not in held:
            held[key] = build(values, family, processor)
        return held[key]

    return built


@pytest.fixture
def vlcheck(monkeypatch, capfd, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """Run the command in an empty folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vlcheck", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code, *capfd.readouterr()

    return run
