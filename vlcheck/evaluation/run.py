"""Evaluate a run: its split through its collator and its model, into a folder that a second run can take up."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch

from vlcheck.adapters.saved import SavedAdapter, read_adapter
from vlcheck.config.defaults import with_adapters
from vlcheck.data.conversation import Conversation
from vlcheck.data.read import Row, RowProblem
from vlcheck.evaluation import files
from vlcheck.evaluation.attach import build_evaluated, differences, digest
from vlcheck.evaluation.merge_plan import merged_spec
from vlcheck.evaluation.prompting import prompting_of
from vlcheck.evaluation.rows import Quarantine, Survey, survey, wanted_rows
from vlcheck.evaluation.scores import Scores, score
from vlcheck.evaluation.wrong import draw_wrong
from vlcheck.evidence.options import ALLOW_NOTHING, Options
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Unavailable
from vlcheck.model.build import AdapterRefused, check_patch
from vlcheck.model.targets import resolve
from vlcheck.processing.collator import Collator
from vlcheck.processing.exact_match import NORMALISATION, matches, normalise
from vlcheck.processing.generate import GREEDY, MARGIN, Answer, Decoding, Unasked, answer_tokens, evaluate
from vlcheck.processing.processor import FoundProcessor, check_tokenizer
from vlcheck.processing.resolved_run import ResolvedRun
from vlcheck.spec import ConfigError, Location, Problem, RunSpec
from vlcheck.training.charts import draw_confusion
from vlcheck.training.content import base_digest
from vlcheck.versions import installed

Replies: TypeAlias = Generator[Answer | Unasked, None, None]

MOST_DRAWN = 60
"""Labels of a confusion matrix that is drawn; a picture of more is larger than a screen can show."""


def evaluate_run(  # noqa: PLR0913  one parameter an option
    spec: RunSpec,
    folder: Path,
    *,
    adapter: Path | None = None,
    merged: Path | None = None,
    max_new_tokens: int | None = None,
    limit: int | None = None,
    class_list: bool = False,
    few_shot: int = 0,
    decoding: Decoding = GREEDY,
    options: Options = ALLOW_NOTHING,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Evaluate a run's model on `data.eval_split` and write the evaluation to a folder.

    Args:
        folder: of the evaluation; one that was interrupted there under equal settings is taken up.
        adapter: folder of a saved adapter; None evaluates the base alone.
        merged: folder of a merged model that is asked in the base's place, unquantised, without an adapter.
        max_new_tokens: most tokens of an answer; None takes those of the longest label and `MARGIN` more.
        limit: evaluate so many rows only, every label in turn.
        class_list: list the split's labels behind each question.
        few_shot: rows of the training split that are shown before each question, with their answers.
        decoding: how tokens are chosen.
        options: what the caller allows; `rows` has no meaning here.
        progress: told what is being done.

    Returns:
        What evaluation.json holds.

    Raises:
        ConfigError: if the config, the adapter, the rows or the folder are of no use.
        Unavailable: if data, processor or weights cannot be had here.
    """
    check_patch(with_adapters(spec), allow_code=options.allow_code)
    if merged is not None:
        spec = _of_merged(spec, merged, adapter)
    files.claim(folder)
    saved = None if adapter is None else _adapter(spec, adapter)
    progress("reading rows")
    found = survey(spec, options, limit)
    evidence = Evidence(spec, {}, progress=progress, **vars(options))
    run: ResolvedRun = evidence.get("resolved_run")
    check_tokenizer(spec, run.processor)
    tokens = _tokens(run.collator, found, max_new_tokens, spec.where("data"))
    prompting = prompting_of(
        spec, found.labels, class_list=class_list, few_shot=few_shot, offline=options.offline or not options.stream
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = {
        **({} if merged is None else {"merged": base_digest(spec, run.config.values)}),
        **_settings(spec, saved, run.processor, device),
        "limit": limit,
        "max_new_tokens": tokens,
        "decoding": str(decoding),
        "class_list": list(prompting.labels),
        "few_shot": [str(row) for row in prompting.examples],
        "first_prompt": found.first_prompt(run.collator, prompting),
    }
    kept = found.agreeing(files.begin(folder, settings))
    progress("building the model")
    model = build_evaluated(spec, run.family, saved, config=run.config.values, patch=run.patch, device=device)
    notes = list(found.notes)
    if saved is not None:
        notes += differences(spec, saved, model, _named(spec, evidence.get("reference"), run.family))
    if spec.data.collator is not None:
        notes.append(f"prompts are those of vlcheck's own collator, not of data.collator {spec.data.collator}")
    notes += [f"{len(kept)} predictions are of an earlier run that was interrupted"] if kept else []
    start = time.perf_counter()

    def ask(conversations: Iterator[Conversation]) -> Replies:
        size = spec.training.per_device_eval_batch_size
        return evaluate(
            model, run.collator, map(prompting, conversations), batch_size=size, max_new_tokens=tokens, device=device,
            decoding=decoding,
        )  # fmt: skip

    quarantine = Quarantine(spec, found)
    with (folder / files.PREDICTIONS).open("a", encoding="utf-8", errors="backslashreplace") as stream:
        rows = list(kept)
        done = {row["row"] for row in kept}
        numbered = enumerate(wanted_rows(spec, options))
        wanted = ((number, row) for number, row in numbered if found.asks(number) and number not in done)
        for prediction in _predicted(wanted, ask, quarantine):
            stream.write(files.line(prediction))
            stream.flush()
            rows.append(prediction)
            progress(f"evaluating: {len(rows):,} of {found.asked:,} rows")
    rows.sort(key=lambda row: int(row["row"]))
    seconds = time.perf_counter() - start
    if not rows:
        raise ConfigError(Problem(spec.where("data.eval_split"), f"no row of split {found.split!r} could be evaluated"))
    scores = score([row["expected"] for row in rows], [row["answer"] for row in rows])
    if len(scores.classes) <= MOST_DRAWN:
        title = f"{spec.model.id}, split {found.split}: {scores.correct:,} of {scores.n:,} correct"
        labels = [row.label for row in scores.classes]
        draw_confusion(labels, scores.confusion, folder / files.CHART, title=title)
    draw_wrong(spec, options, rows, folder)
    asked = len(rows) - len(kept)
    document = _document(scores, rows, quarantine, settings, notes) | {
        "batch_size": spec.training.per_device_eval_batch_size,
        "seconds": round(seconds, 3),
        "rows_per_second": round(asked / seconds, 3) if asked else None,
    }
    files.finish(folder, document)
    return document


def _of_merged(spec: RunSpec, merged: Path, adapter: Path | None) -> RunSpec:
    """The run with a merged model in its base's place."""
    if adapter is not None:
        raise ConfigError(Problem(Location(str(adapter)), "is an adapter, and a merged model holds its own: name one"))
    if not (merged / "config.json").is_file():
        fault = "holds no config.json; name the folder that vlcheck merge wrote"
        raise ConfigError(Problem(Location(str(merged)), fault if merged.is_dir() else "is no folder"))
    return merged_spec(spec, merged)


def _adapter(spec: RunSpec, folder: Path) -> SavedAdapter:
    trained = Path(spec.training.output_dir) / "adapter"
    if not folder.is_dir() and trained.is_dir():
        raise ConfigError(Problem(Location(str(folder)), f"is no folder; this run's adapter is in {trained}"))
    return read_adapter(folder)


def _tokens(collator: Collator, found: Survey, wanted: int | None, where: Location) -> int:
    """Most tokens of an answer."""
    least = answer_tokens(collator, found.labels, found.thinking)
    if wanted is not None and wanted < least:
        raise ConfigError(
            Problem(
                where,
                f"--max-new-tokens is {wanted}; allowed: at least {least}, what the longest answer takes with its end "
                "token, or an answer that goes on would pass for one that is right",
            )
        )
    return wanted or least + MARGIN


def _settings(spec: RunSpec, saved: SavedAdapter | None, processor: FoundProcessor, device: str) -> dict[str, Any]:
    """What an evaluation must state so that another can be held against it."""
    data, model = spec.data, spec.model
    return {
        "model": model.id,
        "revision": model.revision,
        "weights": model.weights,
        "seed": spec.training.seed if model.weights == "random" else None,
        "dtype": model.dtype,
        "quantization": spec.quantization and dataclasses.asdict(spec.quantization),
        "attn_implementation": model.attention,
        "patch": model.patch,
        "adapter": saved and {"folder": str(saved.folder), "sha256": digest(saved)},
        "data": data.dataset or data.path or data.generated,
        "split": data.eval_split,
        "eval_samples": data.eval_samples,
        "instruction": data.instruction,
        "max_soft_tokens": data.max_soft_tokens,
        "processor": processor.origin,
        "normalisation": NORMALISATION,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "versions": installed(),
    }


def _named(spec: RunSpec, reference: Any, family: Any) -> list[str] | None:
    """Modules that the config's LoRA settings name."""
    assert spec.lora is not None, "the run has adapters"
    try:
        return list(resolve(reference, spec.lora, family).modules)
    except AdapterRefused:
        return None


def _predicted(
    rows: Iterator[tuple[int, Row | RowProblem]],
    ask: Callable[[Iterator[Conversation]], Replies],
    quarantine: Quarantine,
) -> Iterator[dict[str, Any]]:
    """Predictions of numbered rows, as they come; what cannot be asked goes into quarantine."""
    asked: list[int] = []

    def conversations() -> Iterator[Conversation]:
        for number, row in rows:
            if isinstance(row, Row):
                asked.append(number)
                yield row.conversation

    try:
        for reply in ask(conversations()):
            if isinstance(reply, Answer):
                yield _prediction(reply, asked[reply.row])
            else:
                quarantine.add(asked[reply.row], reply.name, reply.problem)
    except torch.OutOfMemoryError as full:
        raise Unavailable(
            f"the card's memory is full: {str(full).splitlines()[0]}", "lower training.per_device_eval_batch_size"
        ) from full


def _prediction(reply: Answer, number: int) -> dict[str, Any]:
    return {
        "row": number,
        "name": reply.name,
        "expected": reply.expected,
        "answer": reply.text,
        "normalised": normalise(reply.text),
        "correct": matches(reply.text, reply.expected),
        "ended": reply.ended,
        "prompt_tokens": reply.prompt_tokens,
        "new_tokens": reply.new_tokens,
        **({"thinking": reply.thinking} if reply.thinking else {}),
    }


def _document(
    scores: Scores,
    rows: list[dict[str, Any]],
    quarantine: Quarantine,
    settings: Mapping[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    return {
        "schema": files.SCHEMA,
        "n": scores.n,
        "correct": scores.correct,
        "accuracy": scores.accuracy,
        "interval": [scores.interval.low, scores.interval.high],
        "macro_f1": scores.macro_f1,
        "no_label": scores.no_label,
        "cut_off": sum(not row["ended"] for row in rows),
        "classes": [
            dataclasses.asdict(row) | {"precision": row.precision, "recall": row.recall, "f1": row.f1}
            for row in scores.classes
        ],
        "confusion": [
            {"expected": label, "answered": answer, "rows": count}
            for (label, answer), count in scores.confusion.items()
        ],
        "quarantined": quarantine.rows,
        "prompt_tokens": [min(row["prompt_tokens"] for row in rows), max(row["prompt_tokens"] for row in rows)],
        "settings": dict(settings),
        "notes": notes,
    }
