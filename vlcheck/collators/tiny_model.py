"""A tiny real model that takes the batches of a family's processor unchanged.

Layers are few and narrow, as in the family's tiny run; what an image means is as in the full-size model:
patches, merging, position tables, special ids. Weights are random. The vocabulary is folded: an id looks up row
`id % ROWS`, because the logits of 1,000 tokens over 262,144 words alone would take a gibibyte.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_map

from vlcheck.finding import Unavailable
from vlcheck.model.build import build_base, transformers_config
from vlcheck.model.family import Family, Part, Values
from vlcheck.model.random_weights import materialise

SEED = 0

ROWS = 4093
"""Of the folded vocabulary: a prime, so that ids of special tokens, which lie side by side, stay apart."""

SPREAD = 0.125
"""Of the weights: one over the square root of the width, so that attention looks somewhere. At the 0.02 of large
models a narrow one attends evenly to everything, and neither positions nor masks change its logits."""

GEOMETRY = frozenset({
    "image_size", "patch_size", "spatial_patch_size", "temporal_patch_size", "spatial_merge_size", "window_size",
    "num_position_embeddings", "position_embedding_size", "pooling_kernel_size", "mm_posemb_size", "scale_factor",
    "downsample_ratio", "mm_tokens_per_image", "image_grid_pinpoints", "image_seq_length", "pad_token_id",
})  # fmt: skip
"""Keys of a config that decide how many features an image has and what an id stands for."""


def build_batch_model(values: Values, family: Family, processor: Any) -> nn.Module:
    """The tiny model: float32, evaluation mode, on the CPU, the same for the same config and processor.

    Ids and labels may be any of the processor's; logits are over the folded vocabulary. Outside of training its
    vision tower looks once at the same pictures: a trial asks what becomes of one picture in many rows.

    Args:
        values: the run's config.json.
        processor: the one whose batches it is to take, real or a stand-in.

    Raises:
        Unavailable: if the family has no tiny run or no dialogue.
    """
    if family.layer_kinds is None or family.shrink is None or family.dialogue is None:
        raise Unavailable(f"vlcheck knows no miniature of {family.name} that takes a batch")
    full = transformers_config(values).to_dict()
    towers = tuple(path for path, part in family.parts.items() if part is Part.VISION)
    kinds = family.layer_kinds(full)
    tiny = family.shrink(full, {path: _few(kinds[path], 1 if path.startswith(towers) else 2) for path in kinds})
    _restore(tiny, full)
    _spread(tiny)
    _set_ids(tiny, processor, family.dialogue.image_tokens[0])
    model = build_base(tiny, dtype="float32")
    materialise(model, "cpu", SEED)
    _fold(model)
    named = (len(processor.tokenizer), *(number + 1 for number in processor.tokenizer.added_tokens_decoder))
    model.full_vocabulary = max(full.get("text_config", full)["vocab_size"], *named)
    for path in towers:
        _remember_images(model, path)
    return model.eval()


def miniature_values(values: Values, family: Family) -> dict[str, Any]:
    """The config.json of a miniature that takes the batches of the full model's own processor: every id, every image.

    Layers are few and narrow; vocabulary, special ids and the geometry of images are the full model's.

    Raises:
        Unavailable: if the family has no tiny run.
    """
    if family.layer_kinds is None or family.shrink is None:
        raise Unavailable(f"vlcheck knows no miniature of {family.name}")
    full = transformers_config(values).to_dict()
    tiny = family.shrink(full, {path: _few(kinds, 2) for path, kinds in family.layer_kinds(full).items()})
    _restore(tiny, full)
    _restore_ids(tiny, full)
    return tiny


def _restore_ids(tiny: dict[str, Any], full: Mapping[str, Any]) -> None:
    """Ids and vocabularies of the full model; a second name that the tiny run has for one of them goes."""
    for key in tuple(tiny):
        named = str(key).endswith(("_token_id", "_token_index"))
        if isinstance(tiny[key], dict) and isinstance(full.get(key), Mapping):
            _restore_ids(tiny[key], full[key])
        elif key in full and (named or str(key).startswith("vocab_size")):
            tiny[key] = full[key]
        elif named:
            del tiny[key]


def _few(kinds: Sequence[Any], least: int) -> tuple[int, ...]:
    """The first layer of each kind; where all are alike, as many as must be."""
    firsts = tuple(list(kinds).index(kind) for kind in dict.fromkeys(kinds))
    return firsts if len(firsts) > 1 else tuple(range(min(least, len(kinds))))


def _restore(tiny: dict[str, Any], full: Mapping[str, Any]) -> None:
    """Give a shrunken config back the full one's geometry, section by section."""
    for key in tiny.keys() & full.keys():
        if isinstance(tiny[key], dict) and isinstance(full[key], Mapping):
            _restore(tiny[key], full[key])
        elif key in GEOMETRY:
            tiny[key] = full[key]


def _spread(section: dict[str, Any]) -> None:
    """Let the weights of every submodel be drawn as widely."""
    for value in section.values():
        if isinstance(value, dict):
            _spread(value)
    if "initializer_range" in section:
        section["initializer_range"] = SPREAD


def _set_ids(tiny: dict[str, Any], processor: Any, soft: str) -> None:
    """The soft tokens' ids that the processor writes, and the folded vocabulary."""
    for section in (tiny, tiny["text_config"]):
        section.update(dict.fromkeys(section.keys() & {"vocab_size", "vocab_size_per_layer_input"}, ROWS))
        if section.get("pad_token_id") is not None:
            section["pad_token_id"] %= ROWS
    named = {"image": soft, **{kind: getattr(processor, f"{kind}_token", None) for kind in ("video", "audio")}}
    for kind, token in named.items():
        for key in tiny.keys() & {f"{kind}_token_id", f"{kind}_token_index"}:
            tiny[key] = -1 if token is None else processor.tokenizer.convert_tokens_to_ids(token)


def _fold(model: Any) -> None:
    """Look ids up, and compare labels, by their remainder."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings >= ROWS:
            module.register_forward_pre_hook(lambda module, given: (given[0] % ROWS, *given[1:]))
    whole = model.loss_function

    def folded(logits: torch.Tensor, labels: torch.Tensor, *given: Any, **options: Any) -> Any:
        return whole(logits, labels.where(labels < 0, labels % ROWS), *given, **options)

    model.loss_function = folded


def answer(model: nn.Module, batch: Mapping[str, torch.Tensor], **options: Any) -> Any:
    """What the model makes of a batch, without gradients; outside of training the same batch is computed once.

    Args:
        model: of `build_batch_model`.
        batch: as a collator made it, on the CPU.
        options: of the forward, plain values.
    """

    def compute() -> Any:
        with torch.no_grad():
            return model(**batch, **options)

    if model.training:
        return compute()
    seen: Memory = vars(model).setdefault("answers", [])
    return _remembered(seen, tree_flatten((dict(sorted(batch.items())), options)), compute, BATCHES)


Memory: TypeAlias = list[tuple[Any, Any]]
"""What was asked, flattened, and what came of it; the newest first."""


def _remembered(seen: Memory, asked: Any, compute: Callable[[], Any], most: int) -> Any:
    """What came of the same arguments before, or comes of them now; the oldest beyond the `most` are given up."""
    known = next((made for given, made in seen if _alike(given, asked)), None)
    if known is None:
        asked = tree_map(_copied, asked)
        known = compute()
        seen[most - 1 :] = []
        seen.insert(0, (asked, known))
    return known


def forget(model: nn.Module) -> None:
    """Let a model compute every batch again: something was put into it."""
    vars(model).pop("answers", None)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


BATCHES = 8
"""Answers that a model keeps: as many as a trial has batches of its own."""

KEPT = 4
"""Calls of a vision tower that are remembered: as many as a trial has arrangements of its pictures."""


def _remember_images(model: nn.Module, path: str) -> None:
    """Hand out once more what a tower made of the same input; it takes most of a tiny model's time."""
    try:
        tower = model.get_submodule(path)
    except AttributeError:  # a family may name towers that this config leaves out
        return
    look: Callable[..., Any] = tower.forward
    seen: Memory = []

    @functools.wraps(look)
    def forward(*args: Any, **options: Any) -> Any:
        if tower.training or torch.is_grad_enabled():
            return look(*args, **options)
        made = _remembered(seen, tree_flatten((args, options)), lambda: look(*args, **options), KEPT)
        return tree_map(_copied, made)

    tower.forward = forward


def _alike(one: Any, other: Any) -> bool:
    """Whether two calls have the same arguments, tensors by value."""
    (values, shape), (others, other_shape) = one, other
    return shape == other_shape and all(map(_same, values, others))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype is other.dtype and torch.equal(one, other)
    return not isinstance(other, torch.Tensor) and (one is other or bool(one == other))
