"""Run the article's systems end to end: trained, asked, and scored its way and ours."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from vlcheck.config.load import load
from vlcheck.data.atomic_write import check_writable, write_whole
from vlcheck.data.conversation import BadRow
from vlcheck.evaluation.article import MOST_NEW_TOKENS, SYSTEMS, System, instruction, lenient
from vlcheck.evaluation.files import read_evaluation
from vlcheck.evaluation.prompt_length import by_length
from vlcheck.evaluation.rows import survey
from vlcheck.evaluation.run import evaluate_run
from vlcheck.evaluation.scores import wilson
from vlcheck.evaluation.standin import Base, spec_of, task_for, taught, write_photos
from vlcheck.evidence.options import Options
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Unavailable
from vlcheck.model.base_weights import stored_tensors
from vlcheck.processing.exact_match import normalise
from vlcheck.processing.resolved_run import ResolvedRun
from vlcheck.spec import ConfigError, Location, Problem, RunSpec
from vlcheck.training.loop import Trained
from vlcheck.training.record import read_metrics
from vlcheck.training.run import train_resolved
from vlcheck.training.watch import RunStopped

LINES = "reproduction.jsonl"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Weights:
    """Where the article's own models and photos are."""

    folder: Path | None = None
    """Holds a folder a model, called as on the Hub without its owner; None looks into the Hugging Face cache."""
    photos: Path | None = None
    """Data of the recipe's splits; None is the recipe's own, timm/oxford-iiit-pet."""

    def of(self, model: str) -> Path:
        """The folder of a model.

        Raises:
            Unavailable: if it is not whole there, or this machine has no GPU for it.
        """
        if not torch.cuda.is_available():
            raise Unavailable(f"{model} needs a CUDA GPU", "--standin fixtures/standin runs a small model on a CPU")
        folder = self._folder(model)
        if not (folder / "config.json").is_file():
            raise Unavailable(f"{folder} holds no config.json", _unlock(model))
        try:
            stored_tensors(folder)
        except Unavailable as missing:
            raise Unavailable(missing.reason, _unlock(model)) from missing
        return folder

    def _folder(self, model: str) -> Path:
        if self.folder is not None:
            return self.folder / model.rpartition("/")[2]
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(model, local_files_only=True))
        except LocalEntryNotFoundError as missing:
            raise Unavailable(f"no weights of {model} in the Hugging Face cache", _unlock(model)) from missing


def _unlock(model: str) -> str:
    name = model.rpartition("/")[2]
    return (
        f"`hf download {model}` puts them into the cache, --weights DIR names a folder that holds {name}/; without "
        "weights --standin fixtures/standin runs the same on a small model"
    )


@dataclass(frozen=True)
class Reproduction:
    """What all systems of a reproduction share.

    Args:
        source: the models themselves, or a stand-in for them.
        folder: takes a folder a run, and `LINES` a line a run.
        samples: rows of training and of evaluation, every label in turn; None is all.
        options: what the caller allows.
        say: told one line at a time while a run trains.
        progress: told what is being done.
    """

    source: Weights | Base
    folder: Path
    samples: int | None = None
    options: Options = field(default_factory=Options)
    say: Say = lambda line: None
    progress: Say = lambda step: None

    def run(self, name: str, prompt: str) -> dict[str, Any]:
        """Run one system, unless the folder already holds its line.

        Args:
            name: a key of `SYSTEMS`.
            prompt: one of `PROMPTS`, in training and in evaluation.

        Returns:
            The line: what the article tells, what came of it here; `not_run` or `stopped` says why there is no score.

        Raises:
            ConfigError: if folder or data are of no use.
        """
        system, own = SYSTEMS[name], self.place(name, prompt)
        _claim(self.folder)
        asked = {
            "system": name, "prompt": prompt, "samples": self.samples,
            "standin": self.source.sha256 if isinstance(self.source, Base) else None,
        }  # fmt: skip
        for line in kept_lines(self.folder):
            if "exact" in line and all(line.get(key) == value for key, value in asked.items()):
                return line
        told = _share(round(system.figure * system.rows), system.rows) | {"accuracy": system.figure}
        try:
            found = self._ran(system, self._described(system, prompt, own), own)
        except Unavailable as missing:
            found = {"not_run": f"{missing.reason}; {missing.unlock}".rstrip("; ")}
        except (RunStopped, BadRow) as stopped:
            found = {"stopped": str(stopped)}
        line = {**asked, "article": told, **found}
        lines = [*kept_lines(self.folder), line]
        write_whole(self.folder / LINES, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines))
        return line

    def place(self, name: str, prompt: str) -> Path:
        """The folder of one run; its evaluation lies in `evaluation`."""
        return self.folder / "-".join(map(str, filter(None, (name, prompt, self.samples))))

    def _described(self, system: System, prompt: str, own: Path) -> RunSpec:
        if isinstance(self.source, Base):
            task = task_for(self.samples)
            self.progress("drawing photos")
            photos = write_photos(task, self.folder / f"photos-{task.breeds}x{task.train}")
            spec = spec_of(
                self.source.folder, photos, own, seed=0, learning_rate=self.source.learning_rate,
                dataloader_num_workers=int(torch.cuda.is_available()), **taught(self.source, task),
            )  # fmt: skip
        else:
            spec = load(Path(str(files("vlcheck") / "recipes" / f"{system.recipe}.yaml")))
            data = replace(spec.data, dataset=None, path=str(self.source.photos)) if self.source.photos else spec.data
            spec = replace(
                spec, model=replace(spec.model, id=str(self.source.of(spec.model.id))), data=data,
                training=replace(spec.training, output_dir=str(own)),
            )  # fmt: skip
        spec = system.changed(spec)
        if prompt == "ours":
            return spec
        names = survey(spec, self.options, None).labels
        return replace(spec, data=replace(spec.data, instruction=instruction(names)))

    def _ran(self, system: System, spec: RunSpec, own: Path) -> dict[str, Any]:
        real = isinstance(self.source, Weights)
        samples = self.samples if real else None  # no more photos are drawn for a stand-in than are asked for
        trained = self._trained(system, spec, samples) if system.tuned else None
        adapter = trained.adapter if trained else None
        begun = time.perf_counter()
        document = evaluate_run(
            spec, own / "evaluation", adapter=adapter, limit=samples, options=self.options,
            progress=self.progress, max_new_tokens=MOST_NEW_TOKENS if real else None,
        )  # fmt: skip
        rows = read_evaluation(own / "evaluation").predictions
        names = {normalise(row["expected"]) for row in rows}
        right = sum(lenient(row["answer"], names) == normalise(row["expected"]) for row in rows)
        return {
            "model": spec.model.id,
            "exact": _share(document["correct"], document["n"]),
            "lenient": _share(right, document["n"]),
            "training": trained and _course(own, trained),
            "evaluation_seconds": round(time.perf_counter() - begun, 1),
            "device": document["settings"]["device"],
            "versions": document["settings"]["versions"],
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }

    def _trained(self, system: System, spec: RunSpec, samples: int | None) -> Trained:
        run: ResolvedRun = Evidence(spec, {}, progress=self.progress, **vars(self.options)).get("resolved_run")
        if system.by_length:
            run = replace(run, collator=by_length(run.collator))
        return train_resolved(
            run, samples=samples, offline=self.options.offline, stream=self.options.stream, say=self.say,
            progress=self.progress,
        )  # fmt: skip


def kept_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines that a folder holds; one that is damaged is passed over, and its run begun anew."""
    file, found = folder / LINES, []
    for text in file.read_text("utf-8", errors="replace").splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(text))
    return [line for line in found if isinstance(line, dict)]


def _claim(folder: Path) -> None:
    """Make the folder, before there is hours of work to keep in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / LINES)
    except OSError as refused:
        raise ConfigError(Problem(Location(str(folder)), f"cannot be written to: {refused.strerror}")) from refused


def _course(own: Path, trained: Trained) -> dict[str, Any]:
    """How the loss went, so that an explosion shows."""
    losses = [float(step["loss"]) for step in read_metrics(own)]
    return {
        "steps": len(losses), "seconds": round(trained.seconds, 1), "first_loss": round(losses[0], 4),
        "highest_loss": round(max(losses), 4), "last_loss": round(losses[-1], 4),
    }  # fmt: skip


def _share(correct: int, n: int) -> dict[str, Any]:
    interval = wilson(correct, n)
    return {
        "correct": correct, "n": n, "accuracy": round(correct / n, 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
    }  # fmt: skip
