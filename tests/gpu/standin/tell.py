"""What the faults cost, from the raw runs: docs/harm.md, docs/harm.svg, and the table that `vlcheck explain` reads.

python -m tests.gpu.standin.tell
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.gpu.standin.faults import FAULTS, LEAST_EFFECT, SEEDS, Fault
from tests.gpu.standin.sweep import FIXTURES, lines
from vlcheck.evaluation.scores import Interval, wilson
from vlcheck.reports.harm import severities_of
from vlcheck.rules import every_rule

ROOT = FIXTURES.parent
PAGE, PLOT = ROOT / "docs" / "harm.md", ROOT / "docs" / "harm.svg"
TABLE = ROOT / "vlcheck" / "reports" / "harm.json"
T = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}
"""Quantiles of Student's t that leave 2.5 % above, by degrees of freedom."""
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Effect:
    """One fault against the sound runs of the same seeds."""

    name: str
    fault: Fault
    runs: tuple[Run, ...]
    """Those that reached an accuracy."""
    sound: tuple[Run, ...]
    """The sound run of each one's seed."""
    errors: tuple[str, ...] = ()
    """Of the runs that stopped."""

    @property
    def n(self) -> int:
        """Pictures of one evaluation, the same in every run."""
        return int(self.runs[0]["n"])

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return mean(run["accuracy"] for run in self.runs)

    @property
    def difference(self) -> float:
        """Mean accuracy less that of the sound runs."""
        return mean(self._differences)

    @property
    def _differences(self) -> list[float]:
        return [run["accuracy"] - own["accuracy"] for run, own in zip(self.runs, self.sound, strict=True)]

    @property
    def interval(self) -> Interval:
        """95 % of the difference: over seeds and over pictures, whichever reaches further on each side."""
        pictures = newcombe(self.accuracy, mean(run["accuracy"] for run in self.sound), self.n)
        seeds = student(self._differences)
        return Interval(max(-1.0, min(pictures.low, seeds.low)), min(1.0, max(pictures.high, seeds.high)))

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out."""
        return not self.interval.low <= 0 <= self.interval.high

    @property
    def verdict(self) -> str:
        """What may be said of it."""
        if not self.runs:
            return f"stops: {self.errors[0]}"
        if not self.shown:
            return "not shown at this scale"
        if self.difference > 0:
            return "better than the sound run"
        return "harm" if -self.difference >= LEAST_EFFECT else f"harm below {LEAST_EFFECT:.0%}"


def mean(values: Iterable[float]) -> float:
    """Of at least one value."""
    found = list(values)
    return math.fsum(found) / len(found)


def student(values: Sequence[float]) -> Interval:
    """95 % interval of the mean by Student's t; of one value, that value."""
    middle, count = mean(values), len(values)
    if count == 1:
        return Interval(middle, middle)
    spread = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (count - 1))
    half = T[count - 1] * spread / math.sqrt(count)
    return Interval(middle - half, middle + half)


def newcombe(first: float, second: float, n: int) -> Interval:
    """95 % interval of the difference of two shares of n: method 10 of Newcombe, Stat. Med. 17 (1998) 873-890."""
    one, two = wilson(round(first * n), n), wilson(round(second * n), n)
    difference = first - second
    return Interval(
        difference - math.hypot(first - one.low, two.high - second),
        difference + math.hypot(one.high - first, second - two.low),
    )


def effects(runs: Sequence[Run], base: str) -> list[Effect]:
    """Every fault that was run on a base, those that cost most first; those that stop come last."""
    own = [run for run in runs if run["base"] == base]
    sound = {run["seed"]: run for run in own if run["fault"] == "none" and "accuracy" in run}
    found = []
    for name, fault in FAULTS.items():
        ran = sorted((run for run in own if run["fault"] == name), key=lambda run: int(run["seed"]))
        ended = tuple(run for run in ran if "accuracy" in run and run["seed"] in sound)
        if name != "none" and ran:
            errors = tuple(run["error"] for run in ran if run.get("error"))
            found.append(Effect(name, fault, ended, tuple(sound[run["seed"]] for run in ended), errors))
    return sorted(found, key=lambda effect: effect.difference if effect.runs else 2.0)


# --------------------------------------------------------------------------- as documents


def points(share: float) -> str:
    """A difference of shares in points."""
    return f"{100 * share:+.1f}".replace("-", "−").replace("+0.0", "0.0")


def row(effect: Effect) -> str:
    """One line of the page's table."""
    severities = {rule.code: severities_of(rule) for rule in every_rule()}
    codes = ", ".join(f"{code} ({severities[code]})" for code in effect.fault.rules) or "none"
    if not effect.runs:
        told = ["–", "–", "–", "–"]
    else:
        low, high = points(effect.interval.low), points(effect.interval.high)
        told = [
            f"{effect.accuracy:.1%}", f"{points(effect.difference)} ({low} to {high})",
            f"{effect.runs[0]['losses'][-1]:.3g}",
            gradient_norms(effect.runs),
        ]  # fmt: skip
    verdict = effect.verdict.replace("|", "/").replace("\n", " ")[:160]
    seeds = len(effect.runs) or len(effect.errors)
    return f"| {effect.name} | {effect.fault.says} | {seeds} | {' | '.join(told)} | {codes} | {verdict} |"


def page(found: Sequence[Effect], runs: Sequence[Run], known: Mapping[str, Any], base: str) -> str:
    """docs/harm.md."""
    own = [run for run in runs if run["base"] == base]
    sound = [run for run in own if run["fault"] == "none"]
    first = sound[0]
    n, right = int(first["n"]), sum(run["correct"] for run in sound)
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    dates = sorted({run["date"] for run in own})
    ended = [effect for effect in found if effect.runs]
    harmful, silent = [e for e in ended if e.shown and e.difference < 0], [e for e in ended if not e.shown]
    whole = sum(len(effect.runs) + len(effect.errors) >= len(SEEDS) for effect in found)
    missing = [name for name in FAULTS if name != "none" and name not in {effect.name for effect in found}]
    parameters = known["log"][-1]["parameters"]
    settings = first["settings"]
    before = known.get("untuned")
    untuned = f" Before it is tuned it names {before['correct']} of {before['n']}." if before else ""
    norms = gradient_norms(sound)
    rest = f"Not run yet: {', '.join(missing)}." if missing else "None is left out."
    text = f"""# What a fault costs

Each fault alone in a run that is sound otherwise, through `vlcheck train` and `vlcheck evaluate`; written by
`python -m tests.gpu.standin.tell` from the raw runs in `fixtures/harm/`.

The model is a stand-in: Gemma 4's own classes with {parameters / 1e6:.1f} M parameters, pre-trained on drawn animals
(`fixtures/standin/`). It is tuned with QLoRA on photos of 37 invented breeds, {settings["steps"]} steps of 32 at a
learning rate of {settings["learning_rate"]:g}, and names {n} photos that it has not seen by generation. The sound run
names {right} of {n * len(sound)} over {len(sound)} seeds ({wilson(round(right / len(sound)), n)} for a seed).{untuned}
{len(own)} runs, {" and ".join(dates)}, {first["card"]}, {versions}.

- The difference is to the sound runs of the same seeds, in points of accuracy. Its 95 % interval is the wider, on each
  side, of Student's t over the seeds and Newcombe's over the {n} pictures, which are the same in every run. With one
  seed only the pictures count, and nothing is said of other seeds. Nothing is corrected for {len(found)} comparisons.
- {len(found)} faults were run, {whole} of them on all {len(SEEDS)} seeds. {rest}
- **A model that reaches 100 % hides what only slows it.** "Not shown at this scale" says that these pictures, steps
  and this size do not show it, while {len(harmful)} other faults of the same set-up show theirs; it does not say that
  the fault is harmless. Those rules' severities rest on the sources that `vlcheck explain` gives.
- The smallest effect worth detecting, {100 * LEAST_EFFECT:.0f} points, the faults and the seeds stood before the sweep.
- `train` stops a run at its third step where the intent says that a part is trained and its adapters are missing or do
  not move. So the faults that freeze a part say so in their intent: the harm is that of a run which nobody stopped.

![Accuracy against the sound run, by fault](harm.svg)

| fault | what is wrong | seeds | accuracy | difference in points (95 %) | last loss | gradient norms | rule | verdict |
| --- | --- | --: | --: | --: | --: | --- | --- | --- |
"""
    text += "".join(row(effect) + "\n" for effect in found)
    text += f"""
Gradient norms are of vision, projector and language, means over the last three quarters of the steps and the seeds; the
sound run's are {norms}. Losses of faults in labels are of other labels, and not to be held against the
sound run's, {first["losses"][-1]:.3g}.

Not shown at this scale: {", ".join(effect.name for effect in silent) or "none"}. The clip bounds are the extremes of
the base's own activations, so that the sound run's clamps rarely act; half of them do cut.

Severities follow this table where it shows harm (`tests/rules/test_severities.py`). Two are below an error on purpose:
the other prompt is a question that the base was pre-trained to answer otherwise, which costs more than the slip of a
template that VLC218 mostly finds; and prompts padded on the right spoil a score, not a run. VLC806 is a warning from
ten times the reported rate on, which is what was run here.

Two results surprised most. A supervised prompt costs next to nothing here, where the end of a turn that is not learnt
costs most of the names: the answer is right and runs on. And no change of the clamps costs anything, which the
popular account holds for the main cause.
"""
    return text + again(runs, base)


def gradient_norms(runs: Sequence[Run]) -> str:
    """Means by part."""
    return " / ".join(
        f"{mean(run['norms'].get(part, 0.0) for run in runs):.2g}" for part in ("vision", "projector", "language")
    )


def again(runs: Sequence[Run], base: str) -> str:
    """How far the same faults and seeds went on other bases that the same command built."""
    own = {(run["fault"], run["seed"]): run["accuracy"] for run in runs if run["base"] == base and "accuracy" in run}
    both = [
        (abs(run["accuracy"] - own[run["fault"], run["seed"]]), run)
        for run in runs
        if run["base"] != base and "accuracy" in run and (run["fault"], run["seed"]) in own
    ]
    if not both:
        return ""
    _, run = max(both, key=lambda pair: pair[0])
    here = own[run["fault"], run["seed"]]
    return f"""
A base that the same command built before this one (`{run["base"][:12]}`) had {len(both)} of these runs. Furthest from
the table is {run["fault"]} at seed {run["seed"]}: {run["accuracy"]:.1%} there, {here:.1%} here.
"""


HARM, NULL, EDGE = "#b33", "#888", "#222"


def plot(found: Sequence[Effect]) -> str:
    """docs/harm.svg: a bar a fault from the sound run's accuracy to its own, the interval as a line with ends."""
    ended = [effect for effect in found if effect.runs]
    left, scale, height, top = 180, 5.0, 22, 34
    wide, tall = left + 100 * scale + 180, top + height * len(ended) + 46
    bottom = tall - 42

    def x(share: float) -> float:
        return round(left + scale * 100 * (1 + share), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{tall}" viewBox="0 0 {wide:.0f} {tall}" '
        'font-family="sans-serif" font-size="12" role="img" aria-label="Loss of accuracy by fault">',
        f'<rect width="{wide:.0f}" height="{tall}" fill="white"/>',
        *key(left, top),
    ]
    for tick in (-1.0, -0.75, -0.5, -0.25, 0.0):
        colour = EDGE if tick == 0 else "#ddd"
        parts.append(f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{top - 4}" y2="{bottom}" stroke="{colour}"/>')
        parts.append(f'<text x="{x(tick)}" y="{bottom + 15}" text-anchor="middle">{points(tick).split(".")[0]}</text>')
    for place, effect in enumerate(ended):
        y, low, high = top + height * place, effect.interval.low, effect.interval.high
        colour = HARM if effect.shown and effect.difference < 0 else NULL
        start, stop = sorted((x(effect.difference), x(0)))
        seeds = f"{len(effect.runs)} seed{'s' * (len(effect.runs) > 1)}"
        parts += [
            f'<text x="{left - 10}" y="{y + 12}" text-anchor="end">{escape(effect.name)}</text>',
            f'<rect x="{start}" y="{y + 2}" width="{max(1.0, stop - start):.1f}" height="12" fill="{colour}"/>',
            f'<path d="M{x(low)} {y + 8}H{x(high)}M{x(low)} {y + 5}v6M{x(high)} {y + 5}v6" '
            f'stroke="{EDGE}" fill="none"/>',
            f'<text x="{wide - 70:.0f}" y="{y + 12}" text-anchor="end">{points(effect.difference)}</text>',
            f'<text x="{wide - 56:.0f}" y="{y + 12}" fill="#555">{seeds}</text>',
        ]
    parts.append(
        f'<text x="{left + 50 * scale}" y="{tall - 8}" text-anchor="middle">'
        "points of accuracy against the sound run, 95 % interval</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def key(left: int, top: int) -> list[str]:
    """What the two colours say, above the bars."""
    return [
        f'<rect x="{at}" y="{top - 24}" width="12" height="12" fill="{colour}"/>'
        f'<text x="{at + 18}" y="{top - 14}">{says}</text>'
        for at, colour, says in ((left, HARM, "harm"), (left + 80, NULL, "not shown at this scale"))
    ]


def table(found: Sequence[Effect], runs: Sequence[Run], known: Mapping[str, Any], base: str) -> dict[str, Any]:
    """What `vlcheck explain` and `vlcheck reproduce --harm` read, those that cost most first."""
    own = [run for run in runs if run["base"] == base]
    return {
        "source": "fixtures/harm, written by python -m tests.gpu.standin.tell",
        "date": max(run["date"] for run in own),
        "card": own[0]["card"],
        "parameters": known["log"][-1]["parameters"],
        "faults": [fault_of(effect) for effect in found if effect.runs],
    }


def fault_of(effect: Effect) -> dict[str, Any]:
    """One line of that table."""
    interval = effect.interval
    return {
        "name": effect.name, "says": effect.fault.says, "rules": list(effect.fault.rules),
        "accuracy": round(effect.accuracy, 4), "sound": round(mean(run["accuracy"] for run in effect.sound), 4),
        "difference": round(effect.difference, 4), "interval": [round(interval.low, 4), round(interval.high, 4)],
        "seeds": len(effect.runs), "pictures": effect.n, "shown": effect.shown,
    }  # fmt: skip


def told(folder: Path = FIXTURES / "harm") -> dict[Path, str]:
    """Every document by its place."""
    known = json.loads((FIXTURES / "standin" / "base.json").read_text("utf-8"))
    base, runs = known["sha256"], lines(*sorted(folder.glob("*.jsonl")))
    found = effects(runs, base)
    return {
        PAGE: page(found, runs, known, base),
        PLOT: plot(found),
        TABLE: json.dumps(table(found, runs, known, base), indent=1, ensure_ascii=False) + "\n",
    }


def main() -> None:
    """Write them."""
    for path, text in told().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
