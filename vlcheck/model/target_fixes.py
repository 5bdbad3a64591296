"""Settings that would do what a run's targets do not: each is held against the model before it is advised.

Every function returns what goes into a config as it stands, keys and values of a YAML flow mapping, or nothing
where no such setting was found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import get_args

from torch import nn

from vlcheck.library_settings import Freezable
from vlcheck.model.aim import ALL_LINEAR, as_regexes, left_out
from vlcheck.model.family import Family, Part
from vlcheck.model.targets import Targets, linears, parts_by_path
from vlcheck.spec import Lora, RunSpec

MOST = 8
"""Alternatives of a regex that somebody is asked to type."""


def training(base: nn.Module, spec: RunSpec, family: Family, parts: Collection[Part], missing: Part) -> str:
    """Settings under which LoRA adapts every linear layer of these parts and no other part's.

    A part without a linear layer (the projector of Gemma 3 is a bare parameter), or without one that the run's
    framework takes for all-linear, is trained in full instead.

    Args:
        missing: the part that is not trained now, one of `parts`.
    """
    freeze = tuple(name for name in spec.training.freeze if name not in {part.intent for part in parts})
    if (lora := spec.lora) is None:
        return f"freeze: [{', '.join(freeze)}]"
    of = parts_by_path(base, family)
    every = _all_linear(base, replace(spec, training=replace(spec.training, freeze=freeze)), family)
    unwanted = {name for name in every if of[name] is not None and of[name] not in parts}
    changes = [f"target_modules: {ALL_LINEAR}"]
    if unwanted:
        changes.append(_written("exclude_modules", exclusion(unwanted, every - unwanted)))
    elif lora.exclude_modules:
        changes.append("remove exclude_modules")
    if freeze != spec.training.freeze:
        changes.append(f"freeze: [{', '.join(freeze)}]")
    changes.extend(f"remove {key}" for key in ("layers_to_transform", "layers_pattern") if getattr(lora, key))
    if missing is Part.EXPERTS:
        return experts(base, lora, of)
    if not any(of[name] is missing for name in every):
        roots = [
            path for path, part in of.items() if part is missing and of.get(path.rpartition(".")[0]) is not missing
        ]
        saved = [*(lora.modules_to_save or ()), *dict.fromkeys(root.rpartition(".")[2] for root in roots)]
        changes = [f"modules_to_save: [{', '.join(saved)}]"] if roots else []
    return ", ".join(filter(None, changes))


def _all_linear(base: nn.Module, spec: RunSpec, family: Family) -> set[str]:
    """Linear layers that `all-linear` adapts in the run's framework."""
    assert spec.lora is not None, "the run has adapters"
    passed_over = re.compile(
        left_out(replace(spec, lora=replace(spec.lora, target_modules=ALL_LINEAR)), family) or "(?!)"
    )
    return {name for name in linears(base) if not passed_over.fullmatch(name)}


def experts(base: nn.Module, lora: Lora, of: Mapping[str, Part | None]) -> str:
    """Settings that adapt fused experts, which are bare parameters of three dimensions."""
    fused = {
        f"{name.rpartition('.')[2]}.{key}"
        for name, module in base.named_modules()
        if of.get(name) is Part.EXPERTS
        for key, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3
    }
    if not fused:
        return ""
    return f"target_parameters: [{', '.join(sorted(fused))}]" + (", lora_dropout: 0" if lora.lora_dropout else "")


def leaving_out(lora: Lora, targets: Targets, unwanted: Collection[str]) -> str:
    """Settings under which these modules are not adapted, nor saved, and every other one is as before."""
    changes = []
    aimed = {name for name in targets.modules if name in unwanted}
    kept = set(targets.modules) - aimed
    if aimed:
        if not kept:
            return ""
        working = [] if _idle(lora, targets) else as_regexes(lora.exclude_modules)
        new = exclusion(aimed, kept)
        changes.append(new and _written("exclude_modules", "|".join([*working, new])))
        if not new:
            return ""
    for key in ("modules_to_save", "target_parameters"):
        entries: tuple[str, ...] = getattr(lora, key) or ()
        rest = [entry for entry in entries if not any(_ends_in(name, entry, key) for name in unwanted)]
        if len(rest) < len(entries):
            changes.append(f"{key}: [{', '.join(rest)}]" if rest else f"remove {key}")
    return ", ".join(changes)


def freezing(spec: RunSpec, part: Part) -> str:
    """Settings under which a run without adapters leaves a part as it is; no framework freezes experts by name."""
    if part.intent not in get_args(Freezable):
        return ""
    return f"freeze: [{', '.join(dict.fromkeys((*spec.training.freeze, part.intent)))}]"


def excludes(lora: Lora, targets: Targets, meant: Collection[str]) -> str:
    """`exclude_modules` with each entry that removes nothing made one that does, or left out.

    Args:
        meant: modules that are to be trained: an entry that names one of them is left out.
    """
    written = [lora.exclude_modules] if isinstance(lora.exclude_modules, str) else list(lora.exclude_modules or ())
    idle = set(targets.idle_excludes.values())
    regexes = [] if idle == set(written) else as_regexes(tuple(entry for entry in written if entry not in idle))
    for entry in idle:
        word = re.escape(entry.strip(".*^$"))
        inside = rf".*\b{word}\b.*"
        hit = {name for name in targets.modules if word and re.fullmatch(inside, name)}
        if hit and len(hit) < len(targets.modules) and not hit & set(meant):
            regexes.append(exclusion(hit, set(targets.modules) - hit))
    if not any(regexes):
        return "remove exclude_modules" if idle == set(written) else _written("exclude_modules", "|".join(regexes))
    return _written("exclude_modules", "|".join(filter(None, regexes)))


def exclusion(unwanted: Collection[str], kept: Collection[str]) -> str:
    """A regex that matches all of the first paths and none of the second; empty if it would be too long to type."""
    for word in _words(min(unwanted)):
        regex = rf".*{re.escape(word)}.*"
        if all(word in name for name in unwanted) and not any(word in name for name in kept):
            return regex
    roots = sorted({_root(name, kept) for name in unwanted})
    regexes = list(dict.fromkeys(_numbered(root, kept) for root in roots))
    return "|".join(rf"{regex}(\..*)?" for regex in regexes) if len(regexes) <= MOST else ""


def working_regex(
    base: nn.Module, targets: Targets, family: Family, parts: Collection[Part], meant: Collection[Part] = ()
) -> str:
    """A `target_modules` regex that adapts what was meant: the inner `.linear` of each targeted wrapper.

    Args:
        parts: parts to keep; the audio tower is no use to a run without audio.
        meant: parts to adapt in any case, all of their linear layers where no target hits one.
    """
    inner = ".linear"
    kinds = {name: type(module).__name__ for name, module in base.named_modules()}
    of = parts_by_path(base, family)
    missed = set(meant) - {of[name] for name in targets.modules}
    suffixes: dict[tuple[str, str, str], set[str]] = {}
    for name in (*targets.modules, *sorted(layer for layer in linears(base) if of[layer] in missed)):
        part = of[name]
        if part is None or part not in parts:
            continue
        root = max((r for r in family.parts if name == r or name.startswith(r + ".")), key=len)
        path = name.removesuffix(inner) if kinds.get(name.removesuffix(inner)) == family.clip_wrapper else name
        tail = inner if kinds[path] == family.clip_wrapper else ""
        between = r"\." if path.rpartition(".")[0] == root else r"\..*\."
        suffixes.setdefault((root, tail, between), set()).add(path.rpartition(".")[2])
    return "|".join(
        rf"{re.escape(root)}{between}({'|'.join(sorted(names))}){re.escape(tail)}"
        for (root, tail, between), names in sorted(suffixes.items())
    )


def _words(path: str) -> Iterator[str]:
    """What the name of a part could be: components of the path from its start, then pieces of them."""
    components = [word for word in path.split(".")[:-1] if not word.isdigit() and word != "model"]
    yield from components
    yield from (piece for word in components for piece in word.split("_") if len(piece) > 3)


def _root(name: str, kept: Collection[str]) -> str:
    """The shortest path above a module that holds none of the kept ones."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        root = ".".join(parts[:length])
        if not any(other == root or other.startswith(f"{root}.") for other in kept):
            return root
    return name


def _numbered(root: str, kept: Collection[str]) -> str:
    """The path as a regex, its numbers any number where that matches none of the kept modules."""
    any_number = re.sub(r"(?<=\\\.)\d+(?=\\\.|$)", r"\\d+", re.escape(root))
    wide = re.compile(rf"{any_number}(\..*)?")
    return re.escape(root) if any(wide.fullmatch(name) for name in kept) else any_number


def _idle(lora: Lora, targets: Targets) -> bool:
    written = (lora.exclude_modules,) if isinstance(lora.exclude_modules, str) else lora.exclude_modules or ()
    return set(written) == set(targets.idle_excludes.values())


def _ends_in(name: str, entry: str, key: str) -> bool:
    path = entry.rpartition(".")[0] if key == "target_parameters" else entry
    return name == path or name.endswith(f".{path}")


def _written(key: str, regex: str) -> str:
    quoted = regex.replace("'", "''")
    return f"{key}: '{quoted}'" if regex else ""
