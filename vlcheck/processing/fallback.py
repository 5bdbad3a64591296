"""A family's processor, built without the Hub: its real classes around a tokenizer trained on the spot.

What places labels is real: processor class, image processor, special tokens with their ids, turn markers.
What is not is how ordinary words are cut into tokens. A report says which of the two it used.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from vlcheck.finding import Unavailable
from vlcheck.model.build import transformers_config
from vlcheck.model.family import FallbackProcessor, Family, Values

WORDS = 400
"""Entries of the trained vocabulary beside the bytes; more would only slow the start."""

WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Qwen and Llama 3 cut text before byte pairs are joined: line ends stay together, whatever follows them."""

CORPUS = (
    "What breed is the animal in this picture? Answer with the exact name only, or say that it is unknown.",
    "You are a helpful assistant. Look at the image closely and describe what you see in one short sentence.",
    "Abyssinian, american_bulldog, Bengal, Birman, Bombay, boxer, Egyptian_Mau, pug, Ragdoll, Russian_Blue, beagle.",
    "The first image shows a cat on a sofa; the second one shows a dog that is running on the beach with a ball.",
    "Which of these two is larger? The left one, because it is nearer to the camera. How many are there? Three.",
    "Read the label on the bottle, then give its price in euros. user model system assistant human thought",
    "\n\n\n  \t0123456789 (a) [b] {c} <d> #1 50% e-mail: x@y.z, it's, don't, we'll; A/B & C+D = E!",
)
"""Ordinary text for ordinary words."""


def build_fallback(family: Family, values: Values) -> Any:
    """The family's processor for a model of this config.

    Raises:
        Unavailable: if vlcheck has no stand-in for the family, or a package that its classes need is missing.
    """
    if family.fallback is None:
        raise Unavailable(f"vlcheck has no stand-in for a {family.name} processor", "give the model as a local folder")
    made = family.fallback
    tokenizer = train_tokenizer(made)
    full = transformers_config(values).to_dict()
    template = made.template(full)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = transformers_class(made.image_processor)
        with _installed(kind):
            image_processor = kind(**made.image_options(full))
        text = None if template is None else read_template(template)
        return assemble(
            transformers_class(made.processor),
            image_processor=image_processor,
            tokenizer=tokenizer,
            chat_template=text,
            **made.options(full),
        )


def read_template(name: str) -> str:
    """A chat template that ships with vlcheck."""
    return (files("vlcheck.model.families") / "templates" / name).read_text("utf-8")


def assemble(kind: type, **parts: Any) -> Any:
    """A processor that handles images and text, without what it would need for video and sound.

    transformers 5.23 insists on a video processor (hence torchvision) and a feature extractor wherever the
    class knows one. It offers no public way around; its check of the parts' classes is left out here.

    Raises:
        Unavailable: if the class needs a package that is not installed.
    """
    lenient = type(kind.__name__, (kind,), {"check_argument_for_proper_class": lambda self, name, part: None})
    with _installed(kind):
        absent = {name: _Absent() for name in kind.get_attributes() if name not in parts}  # type: ignore[attr-defined]
        return lenient(**absent, **parts)


class _Absent(dict[str, Any]):
    """Stands where a video processor would, and prints as nothing.

    SmolVLM's processor asks it for these two even where there is no video.
    """

    num_frames = fps = None


@contextmanager
def _installed(kind: type) -> Iterator[None]:
    """Say plainly what a class of transformers needs; where it is missing, the class is a dummy that raises."""
    try:
        yield
    except ImportError as missing:
        needed = ", ".join(name for name in ("torchvision", "num2words") if name in str(missing).lower())
        unlock = f"pip install {needed}" if needed else ""
        raise Unavailable(
            f"transformers' {kind.__name__} needs {needed or missing}, which is not installed", unlock
        ) from missing


def train_tokenizer(made: FallbackProcessor) -> Any:
    """A byte-pair tokenizer over `CORPUS` in which every special token of the family has its real id."""
    backend = Tokenizer(models.BPE())
    vocabulary, merges = _trained(made.byte_level)
    taken = set(made.tokens.values())
    free = (number for number in range(len(vocabulary) + len(taken)) if number not in taken)
    moved = {word: next(free) for word in sorted(vocabulary, key=vocabulary.__getitem__) if word not in made.tokens}
    _arrange(backend, made.byte_level, {**moved, **made.tokens}, merges)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in made.tokens])
    if made.adds_bos:
        bos = made.roles["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B:1", special_tokens=[(bos, made.tokens[bos])]
        )
    named = {key: value for key, value in made.roles.items() if key in _STANDARD}
    own = {key: value for key, value in made.roles.items() if key not in _STANDARD}
    return PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=own, padding_side="right", **named)


_STANDARD = ("bos_token", "eos_token", "pad_token", "unk_token")


@functools.cache
def _trained(byte_level: bool) -> tuple[Mapping[str, int], tuple[tuple[str, str], ...]]:
    """Vocabulary and merges of ordinary text; the same for all families of one kind."""
    import json

    backend = Tokenizer(models.BPE())
    _arrange(backend, byte_level, {}, [])
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    trainer = trainers.BpeTrainer(vocab_size=WORDS + len(alphabet), initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    model = json.loads(backend.to_str())["model"]
    vocabulary = dict(model["vocab"])
    if not byte_level:
        for byte in range(256):
            vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    return vocabulary, tuple(tuple(merge) for merge in model["merges"])


def _arrange(
    backend: Tokenizer, byte_level: bool, vocabulary: Mapping[str, int], merges: list[Any] | tuple[Any, ...]
) -> None:
    """Set the parts of a tokenizer up as GPT-2 and its heirs, or as sentencepiece and its heirs, have them."""
    if byte_level:
        backend.model = models.BPE(dict(vocabulary), list(merges))
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(WORD), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
    else:
        backend.model = models.BPE(dict(vocabulary), list(merges), byte_fallback=True)
        backend.normalizer = normalizers.Replace(" ", "\u2581")
        backend.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
        backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])


def transformers_class(name: str) -> Any:
    """A class of transformers, by name.

    Raises:
        Unavailable: if the installed transformers has none of that name.
    """
    try:
        return getattr(transformers, name)
    except AttributeError as missing:
        raise Unavailable(f"transformers {transformers.__version__} has no {name}") from missing
