"""The recipe's tiny Gemma 4 with a small vocabulary, built once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import small_vocabulary
from vlcheck.config.load import load
from vlcheck.data.conversation import Conversation
from vlcheck.data.read import read_rows
from vlcheck.evidence.resolve import Evidence
from vlcheck.model.build import Weights, build_model, build_unadapted
from vlcheck.model.family import Family
from vlcheck.processing.collator import Collator
from vlcheck.spec import RunSpec

RECIPE = files("vlcheck") / "recipes" / "tiny.yaml"
SHIPPED = "vlcheck/tiny-gemma4"
"""The recipe's model."""


@dataclass(frozen=True)
class Tiny:
    """The recipe's run."""

    spec: RunSpec
    values: dict[str, Any]
    family: Family
    collator: Collator

    def base(self) -> Any:
        """The base as evaluation draws it."""
        seed = self.spec.training.seed
        return build_unadapted(self.spec, Weights.RANDOM, config=self.values, seed=seed).eval()

    def adapted(self, **lora: Any) -> Any:
        """The base with adapters that change every answer."""
        import torch

        spec = replace(self.spec, lora=replace(self.spec.lora, **lora))
        model = build_model(spec, Weights.RANDOM, config=self.values, seed=spec.training.seed)
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        return model.eval()

    def rows(self, count: int) -> list[Conversation]:
        """Rows of the evaluation split."""
        rows = list(read_rows(self.spec.data, "test"))[:count]
        return [row.conversation for row in rows]


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    spec = load(Path(str(RECIPE)))
    spec = replace(spec, model=replace(spec.model, id=str(small_vocabulary())))
    evidence = Evidence(spec, {}, offline=True)
    return evidence.call(lambda config, family, own_collator: Tiny(spec, dict(config.values), family, own_collator))


@pytest.fixture(scope="session")
def base(tiny):
    return tiny.base()


@pytest.fixture(scope="session")
def adapter(tiny, tmp_path_factory):
    """A folder as PEFT leaves it."""
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    tiny.adapted().save_pretrained(folder)
    return folder


@pytest.fixture
def config(tmp_path) -> Callable[..., Path]:
    """The recipe with other lines, `config(("eval_split: test", "eval_split: dev"))`, and a small vocabulary."""

    def write(*changes: tuple[str, str], model: str | None = None) -> Path:
        text = RECIPE.read_text(encoding="utf-8")
        for old, new in ((f"id: {SHIPPED}", f"id: {model or small_vocabulary()}"), *changes):
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "tiny.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write
