"""Why entries of `target_modules` match nothing, and what was meant: a regex in a list, a path of another version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from vlcheck.spec import Lora

MOVED = (
    (r"language_model\.model\.", "model.language_model."),
    (r"model\.layers\.", "model.language_model.layers."),
    (r"visual\.", "model.visual."),
    (r"vision_tower\.", "model.vision_tower."),
    (r"vision_model\.", "model.vision_tower.vision_model."),
    (r"vision_tower\.vision_model\.", "vision_tower."),
    (r"multi_modal_projector\.", "model.multi_modal_projector."),
)
"""Where transformers 4.52 to 5 moved the parts of vision-language models, old path to new.

Source: `_checkpoint_conversion_mapping` of models/llava/modeling_llava.py and models/qwen2_vl/modeling_qwen2_vl.py in
4.52, conversion_mapping.py in 5.
"""
IN_A_LIST = "it is a regex in a list, where each entry is the end of a path and no regex"
REGEX = re.compile(r"[\\^$*+?()\[\]{}|]")


@dataclass(frozen=True)
class Misnamed:
    """What is wrong with entries that match nothing, by entry, and `target_modules` as it was meant."""

    reasons: dict[str, str]
    targets: str | tuple[str, ...] = ()

    @property
    def fix(self) -> str:
        """The line of a config."""
        if isinstance(self.targets, str):
            return "target_modules: '" + self.targets.replace("'", "''") + "'"
        return f"target_modules: [{', '.join(self.targets)}]"


def explain(base: nn.Module, lora: Lora) -> Misnamed:
    """Find what was meant by each entry of `target_modules` that matches no module of the base.

    An entry is explained only where what it should have been matches linear layers and nothing else.
    """
    written = lora.target_modules
    kinds = {name: module for name, module in base.named_modules() if name}
    reasons: dict[str, str] = {}
    regexes: list[str] = []
    literals: list[str] = []
    for entry in [written] if isinstance(written, str) else written or ():
        whole = isinstance(written, str)
        if entry.lower() == "all-linear" or _matches(kinds, entry, regex=whole):
            (regexes if whole else literals).append(entry)
        elif found := next(_meant(kinds, entry, whole), None):
            reasons[entry], meant, regex = found
            (regexes if regex else literals).append(meant)
    if not reasons:
        return Misnamed({})
    if not regexes:
        return Misnamed(reasons, tuple(literals))
    ends = [rf"(.*\.)?({'|'.join(map(re.escape, literals))})"] if literals else []
    return Misnamed(reasons, "|".join([*ends, *regexes]))


def suspected(base: nn.Module, written: str | Iterable[str]) -> tuple[str, ...]:
    """What is wrong with entries that match nothing, by their text alone: regexes of a stranger are not run."""
    names = [name for name, _ in base.named_modules()]
    reasons: list[str] = []
    for entry in [written] if isinstance(written, str) else written:
        if not isinstance(written, str) and REGEX.search(entry):
            reasons.append(IN_A_LIST)
        for _, moved in _paths(entry):
            if moved and any(name.startswith(new) for _, new in MOVED if f"`{new}`" in moved for name in names):
                reasons.append(moved)
    return tuple(dict.fromkeys(reasons))


def _meant(kinds: dict[str, nn.Module], entry: str, whole: bool) -> Iterator[tuple[str, str, bool]]:
    """Reason, what was meant, whether that is a regex; only what matches linear layers alone."""
    regex = whole or bool(REGEX.search(entry))
    inside = "" if whole or not regex else IN_A_LIST
    for path, moved in _paths(entry):
        reason = "; ".join(filter(None, (inside, moved)))
        matched = _matches(kinds, path, regex=regex)
        if reason and matched and all(isinstance(kinds[name], nn.Linear) for name in matched):
            yield reason, path, regex


def _paths(entry: str) -> Iterator[tuple[str, str]]:
    """The entry as it stands, then with the start of its path as it is called now, each with what was renamed."""
    yield entry, ""
    yield rf".*\.{entry}", ""
    for old, new in MOVED:
        dotted = old.replace(r"\.", r"\\?\.")
        for lead in ("", r"\.\*", r"\^", r"model\\?\."):
            if match := re.match(f"({lead}){dotted}", entry):
                kept = match[1] if lead in (r"\.\*", r"\^") else ""
                renamed = f"`{old.replace(chr(92), '')}` is called `{new}` in this version of transformers"
                yield kept + new + entry[match.end() :], renamed


def _matches(kinds: dict[str, nn.Module], entry: str, *, regex: bool) -> list[str]:
    if not regex:
        return [name for name in kinds if name == entry or name.endswith(f".{entry}")]
    try:
        return [name for name in kinds if re.fullmatch(entry, name)]
    except re.error:
        return []
