"""Find the run's processor: local folder, Hugging Face cache, Hub, or a stand-in built here."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, AutoTokenizer

from vlcheck.finding import Unavailable
from vlcheck.model.build import transformers_config
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family, Values
from vlcheck.model.hub import hub_answers
from vlcheck.processing.fallback import assemble, build_fallback, transformers_class
from vlcheck.processing.time_limit import check_template, check_tokenizer_file
from vlcheck.spec import ConfigError, Problem, RunSpec

MARKS = ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
"""Files of which any says that a folder means to hold a processor."""


@dataclass(frozen=True)
class FoundProcessor:
    """What turns a run's conversations into tensors."""

    processor: Any
    origin: str
    """One phrase for the report."""
    fallback: bool = False
    """Its tokenizer was trained on the spot, so that ordinary words are cut differently from the real one."""


def find_processor(spec: RunSpec, config: ModelConfig, family: Family, *, offline: bool = False) -> FoundProcessor:
    """The processor of `spec.model`, from the first place that has it, with the run's image budget set.

    Code that a repository brings is never run.

    Raises:
        Unavailable: if a place holds a processor that cannot be loaded, or no place has one and vlcheck has no
            stand-in for the family.
        ConfigError: if `data.max_soft_tokens` is set and the family's images have a fixed number of tokens.
    """
    found = _real(spec, config, family, offline)
    if found is None:
        origin = f"stand-in for {family.name}: its real processor classes and special tokens, ordinary words cut by a "
        found = FoundProcessor(build_fallback(family, config.values), origin + "tokenizer trained here", fallback=True)
    _set_budget(spec, family, found.processor)
    return found


def check_tokenizer(spec: RunSpec, found: FoundProcessor) -> None:
    """Refuse trained weights with a stand-in's ids; an audit may hold them together, a run must not.

    Raises:
        Unavailable: for such a pair.
    """
    if found.fallback and spec.model.weights == "pretrained":
        raise Unavailable(
            f"the processor of {spec.model.id} is not here, and trained weights cannot read another tokenizer's ids",
            "put it beside the model's config.json, or run once without --offline",
        )


def _real(spec: RunSpec, config: ModelConfig, family: Family, offline: bool) -> FoundProcessor | None:
    model = spec.model
    if config.folder is not None and any((config.folder / mark).is_file() for mark in MARKS):
        return FoundProcessor(_loaded(config.folder, family, config.values), f"local folder {config.folder}")
    if Path(model.id).is_absolute():
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = [try_to_load_from_cache(model.id, mark, revision=model.revision) for mark in MARKS]
    except HFValidationError:
        return None
    files = [Path(file) for file in cached if isinstance(file, str)]
    if files:
        return FoundProcessor(_loaded(files[0].parent, family, config.values), f"Hugging Face cache of {model.id}")
    if offline or not hub_answers():
        return None
    folder = _downloaded(model.id, model.revision)
    return None if folder is None else FoundProcessor(_loaded(folder, family, config.values), f"Hub, {model.id}")


def _downloaded(model_id: str, revision: str | None) -> Path | None:
    """The processor's files without weights or code; None if the Hub does not give them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            model_id, revision=revision, allow_patterns=["*.json", "*.jinja", "*.model", "*.txt"], etag_timeout=5
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None
    return Path(folder) if any((Path(folder) / mark).is_file() for mark in MARKS) else None


def _loaded(folder: Path, family: Family, values: Values) -> Any:
    """The processor that a folder holds.

    `AutoProcessor` insists on torchvision wherever a class also handles video; then its parts are put
    together here, with the image processor that needs Pillow alone.
    """
    check_tokenizer_file(folder)
    processor = _as_it_is(folder, family, values)
    check_template(processor, folder)
    return processor


def _as_it_is(folder: Path, family: Family, values: Values) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                if hasattr(processor, "image_processor"):
                    return processor
            except (ImportError, NameError, TypeError):
                if family.fallback is None:
                    raise
            return _from_parts(folder, family, values)
    except Exception as error:  # whatever a folder's files make transformers raise
        raise Unavailable(
            f"the processor in {folder} cannot be loaded: {' '.join(str(error).split())[:300]}",
            "make AutoProcessor.from_pretrained accept the folder",
        ) from error


def _from_parts(folder: Path, family: Family, values: Values) -> Any:
    made = family.fallback
    if made is None:
        raise ValueError(f"vlcheck does not know the parts of a {family.name} processor")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    image_class, full = transformers_class(made.image_processor), transformers_config(values).to_dict()
    has_settings = any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))
    image_processor = (
        image_class.from_pretrained(folder, local_files_only=True)
        if has_settings
        else image_class(**made.image_options(full))
    )
    return assemble(
        transformers_class(made.processor),
        image_processor=image_processor,
        tokenizer=tokenizer,
        chat_template=_chat_template(folder) or tokenizer.chat_template,
        **made.options(full),
    )


def _chat_template(folder: Path) -> str | None:
    """A processor's own template file, in either of its two forms."""
    plain, boxed = folder / "chat_template.jinja", folder / "chat_template.json"
    if plain.is_file():
        return plain.read_text("utf-8")
    if boxed.is_file():
        template: str | None = json.loads(boxed.read_text("utf-8")).get("chat_template")
        return template
    return None


def _set_budget(spec: RunSpec, family: Family, processor: Any) -> None:
    wanted = spec.data.max_soft_tokens
    if wanted is None:
        return
    if family.dialogue is None or family.dialogue.budget is None:
        message = f"data.max_soft_tokens is {wanted}; allowed: leave it out, {family.name} gives it no meaning"
        raise ConfigError(Problem(spec.where("data.max_soft_tokens"), message))
    try:
        family.dialogue.budget(processor, wanted)
    except ValueError as refused:
        raise ConfigError(Problem(spec.where("data.max_soft_tokens"), f"data.max_soft_tokens: {refused}")) from refused
