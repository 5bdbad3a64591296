"""A training script or a notebook as a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, Gone, Idle, To, Unjudged
from vlcheck.config.foreign.not_configs import JOB, is_modal, read_head
from vlcheck.config.foreign.scripts.document import Document
from vlcheck.config.foreign.scripts.gather import document_of
from vlcheck.config.foreign.scripts.generation import generations
from vlcheck.config.foreign.scripts.rows import settle_collator, settle_rows
from vlcheck.config.foreign.scripts.settle import IDS, settle, table_of
from vlcheck.config.foreign.scripts.source import Source, read_source
from vlcheck.config.foreign.scripts.statements import follow_uncalled, read
from vlcheck.config.foreign.scripts.tables import ARGUMENTS_OF, HARMLESS, SECTION_TOUCHES, SECTIONS
from vlcheck.config.foreign.scripts.training import Training, find_training
from vlcheck.config.foreign.scripts.values import TOGETHER, Made, Own, line_of
from vlcheck.config.foreign.translate import Format, translated
from vlcheck.config.typed import fill
from vlcheck.finding import Json
from vlcheck.spec import Concern, ConfigError, Framework, Location, Problem, RunSpec

NAME = "script"
_PACKAGES: Mapping[Framework, tuple[str, ...]] = {
    "trl": ("trl", "transformers"),
    "transformers": ("transformers",),
    "unsloth": ("unsloth", "trl", "transformers"),
    "other": ("transformers",),
}
_NONE: Mapping[str, Json] = MappingProxyType({})
_ALLOWED = "allowed: a script that calls SFTTrainer(...), Trainer(...), or loss.backward() in a loop of its own"
_OVERRIDES = ("compute_loss", "training_step", "create_optimizer", "get_train_dataloader", "_prepare_inputs")
"""Methods of a trainer that change what is judged."""


def read_script(
    path: str | os.PathLike[str], *, stated: str | None = None, typed: Mapping[str, Json] = _NONE
) -> RunSpec:
    """Read what a script or a notebook trains; no line of it runs.

    Args:
        stated: version of the framework; by default the one that a notebook installs, else the installed one.
        typed: fields of the run that the command line sets, so that the script need not tell them.

    Raises:
        ConfigError: if it is no Python, trains nothing, or does not tell its model or where its adapters sit.
    """
    source = read_source(path)
    try:
        training, document = _trained(source)
    except RecursionError:
        raise ConfigError(Problem(Location(source.file), "is nested too deeply to be read")) from None
    folder, framework = Path(source.file).parent, training.framework
    arguments = ARGUMENTS_OF[framework]
    pins = {package: version for package, (version, _) in (source.pins or {}).items()}
    unsure = document.unsure

    def settled(draft: Draft) -> None:
        settle(draft, framework, unsure, frozenset(typed))
        settle_collator(draft, framework, source.file)
        draft.own_rows = bool(draft.value("rows.changed")) or not {"load_dataset", "trainer.**"}.isdisjoint(unsure)
        settle_rows(draft, frozenset(typed))
        _overridden(draft, training)
        for key, text in unsure.items():
            _doubt(draft, key, text, table_of(key.rpartition(".")[0], framework, arguments), typed)
        draft.generations = generations(source)
        draft.assumed += [*_together(document.said), *_told_otherwise(source, training)]
        fill(draft.document, draft.sources, typed)

    form = Format(
        name=NAME,
        title=_PACKAGES[framework][0],
        framework=framework,
        packages=_PACKAGES[framework],
        keys={**arguments, **SECTIONS},
        settle=settled,
    )
    own = _PACKAGES[framework][0]
    spec = translated(form, document.given, document.places, folder, stated=stated or pins.get(own), others=pins)
    if framework == "other":
        spec = replace(spec, training=replace(spec.training, framework_version=None))
    return spec


def _trained(source: Source) -> tuple[Training, Document]:
    script, module = read(source)
    training = find_training(script)
    uncalled = follow_uncalled(script, module) if training is None else []
    training = training or find_training(script)
    if training is None:
        told = f"is a job; {JOB}" if is_modal(read_head(source.file)) else f"trains nothing; {_ALLOWED}"
        raise ConfigError(Problem(source.at(1, 1), told))
    document = document_of(script, training)
    if uncalled:
        names = ", ".join(f"{own.name} ({line_of(own.where)})" for own in uncalled)
        document.said[f"nothing in the script calls {names}; read as called with the defaults"] = None
    return training, document


def _doubt(draft: Draft, key: str, text: str, table: Mapping[str, Fate], typed: Mapping[str, Json]) -> None:
    """Keep an argument that only a run would tell, with what it decides."""
    name = key.rpartition(".")[2]
    fate = table.get(name)
    fate = fate.meant if isinstance(fate, Gone) else fate
    if name in HARMLESS or isinstance(fate, Idle) or (isinstance(fate, To) and fate.path in typed):
        return
    if key in (*IDS, "LoraConfig"):
        return  # refused, or filled in
    if key in ("load_dataset", "eval_load_dataset"):
        message = f"rows come from {text}, which was not run, so none was read"
        draft.doubt(key, "data", "labels", "memory", message=message)
        return
    touches: tuple[Concern, ...] = ("data", "labels", "memory") if "load_dataset." in key else ()
    decides = ""
    if isinstance(fate, To):
        decides, touches = f"; it decides {fate.path}", SECTION_TOUCHES[fate.path.partition(".")[0]]
    elif isinstance(fate, Unjudged):
        touches = fate.touches
    draft.doubt(key, *touches, message=f"{text} is known only when the script runs{decides}")


def _overridden(draft: Draft, training: Training) -> None:
    """A trainer of the script's own that changes the loss, the optimizer or the batches."""
    own = training.start.own
    for name in _OVERRIDES if own is not None else ():
        method = own.names.get(name) if own is not None else None
        if own is not None and isinstance(method, Own):
            key = f"trainer.{name}"
            draft.places[key] = replace(method.where, key=key)
            draft.doubt(key, "memory", "labels", message=f"{own.name} has a {name} of its own, which was not run")


def _together(said: Iterable[str]) -> list[str]:
    """Sentences with one beginning as one."""
    plain: list[str] = []
    for beginning in TOGETHER:
        held = [sentence.removeprefix(beginning) for sentence in said if sentence.startswith(beginning)]
        plain += [beginning + ", ".join(held)] if held else []
    return plain + [sentence for sentence in said if not sentence.startswith(TOGETHER)]


def _told_otherwise(source: Source, training: Training) -> list[str]:
    said = []
    if training.others:
        lines = ", ".join(map(str, training.others))
        said.append(f"the script trains more than once, and the first was judged; the others are on line {lines}")
    for package, (version, where) in (source.pins or {}).items():
        if package in _PACKAGES[training.framework]:
            said.append(f"{where} installs {package} {version}, and that version was judged")
    if isinstance(training.start, Made) and not training.start.sure:
        said.append(f"{line_of(training.start.where)}: the training starts where a run decides so; it was taken to")
    return said
