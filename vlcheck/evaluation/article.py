"""The article whose four systems `vlcheck reproduce` runs: what it tells of each, what it asks, how it scores.

Shir Meir Lador, "Fine-Tuning Gemma 4 with Cloud Run Jobs", dev.to, 28 April 2026; figures from two retellings on
codcompass.com, which disagree, and settings from the history of github.com/GoogleCloudPlatform/devrel-demos,
ai-ml/finetune_gemma.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from vlcheck.processing.exact_match import normalise
from vlcheck.spec import Intent, RunSpec

LINEAR = tuple(f"{name}_proj.linear" for name in ("q", "k", "v", "o", "gate", "up", "down"))
"""What the first published code adapts: layers of the vision tower, and none of the language model."""
PROMPTS = ("article", "ours")
"""The article's prompt lists every name and allows `Unknown`; ours is the recipe's, one question."""
MOST_NEW_TOKENS = 128
"""Of an answer, in the article's code; a name anywhere in it counts there."""


@dataclass(frozen=True)
class System:
    """One of the article's four."""

    says: str
    recipe: str
    figure: float
    """Accuracy, as told."""
    rows: int
    """Of the evaluation, as far as the figure tells: 67, 89 and 78 % are multiples of half a point, as of 200 rows."""
    tuned: bool = False
    by_length: bool = False
    """Whether labels begin behind as many ids as the prompt has, instead of where the answer is found."""
    changed: Callable[[RunSpec], RunSpec] = lambda spec: spec
    """From the recipe to what this system sets otherwise."""


def _first_code(spec: RunSpec) -> RunSpec:
    """Commit f053d539 of 3 April 2026; it says nothing of what it means to train, or `train` would stop it."""
    assert spec.lora is not None, "the recipe has adapters"
    return replace(
        spec,
        lora=replace(spec.lora, target_modules=LINEAR, r=16, lora_alpha=32),
        training=replace(spec.training, learning_rate=0.4 * spec.training.learning_rate),  # 2e-5 beside 5e-5
        intent=Intent(),
    )


SYSTEMS = {
    "gemma3-baseline": System("Gemma 3 27B in 4 bits, not tuned", "gemma3-27b-pet-baseline", 0.67, 200),
    "gemma4-baseline": System("Gemma 4 31B in 4 bits, not tuned", "gemma4-31b-pet-baseline", 0.89, 200),
    "standard-lora": System(
        "Gemma 4 31B, seven names with `.linear`, rank 16, masked by the prompt's length; its loss is told to explode",
        "gemma4-31b-pet", 0.78, 200, tuned=True, by_length=True, changed=_first_code,
    ),
    "qlora-all-linear": System(
        "Gemma 4 31B, `all-linear`, rank 64, the answer found from behind", "gemma4-31b-pet", 0.94, 3_669, tuned=True
    ),
}  # fmt: skip


def instruction(names: Iterable[str]) -> str:
    """The article's prompt, in our words: every name is listed, nothing else is to be said."""
    listed = ", ".join(sorted(names))
    return (
        f"Identify the breed of the animal in this picture. The breeds are: {listed}. "
        "Answer with only the exact name from this list, or Unknown. What breed is it?"
    )


def lenient(answer: str, names: Iterable[str]) -> str | None:
    """The name that the article's score reads out of an answer: the longest one in it, None where there is none.

    Both are normalised first, so that an underscore is a space.
    """
    said = normalise(answer)
    return max((name for name in map(normalise, names) if name and name in said), key=len, default=None)
