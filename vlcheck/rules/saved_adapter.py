"""VLC70x: whether the tensors of a saved adapter arrive in the run's model, and in what shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from vlcheck.adapters.renamings import prefix_changes, rewrapped
from vlcheck.finding import Examined, Finding, Json, NotApplicable, Severity, rule

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.adapters.load import ExpectedAdapter, LoadedAdapter
    from vlcheck.adapters.saved import SavedAdapter
    from vlcheck.evidence.clip import Wrappers
    from vlcheck.model.family import Part
    from vlcheck.spec import Lora

Item = TypeVar("Item")


@rule("VLC701", "tensors-missing", Severity.ERROR)
def tensors_missing(
    saved_adapter: SavedAdapter, expected_adapter: ExpectedAdapter, loaded_adapter: LoadedAdapter
) -> Iterator[Finding | Examined]:
    """The file lacks tensors that the run's model expects.

    PEFT loads what it finds and warns at most. An adapter whose tensors are missing keeps its start, where
    `lora_B` is zero: that part of the model runs as if it had never been trained.

    Remedy: load with the settings that the adapter was trained with, or save it again; the finding's first
    name shows which module is concerned.

    Source: https://github.com/huggingface/peft/issues/2566
    """
    expected = [place for place in expected_adapter.required() if place.rank is not None]
    missing = [place for place in loaded_adapter.missing if place.rank is not None]
    yield Examined(len(expected), "tensors expected")
    for part, lacking in _by_part((place.part, place) for place in missing):
        of = sum(place.part is part for place in expected)
        yield Finding(
            f"{_named(part)}: {len(lacking)} of {of} expected tensors are not in the file; first: {lacking[0].key}",
            where=saved_adapter.where,
            measured={"missing": len(lacking), "expected": of, "first": [place.key for place in lacking[:4]]},
        )


@rule("VLC702", "tensors-unexpected", Severity.ERROR)
def tensors_unexpected(saved_adapter: SavedAdapter, loaded_adapter: LoadedAdapter) -> Iterator[Finding | Examined]:
    """The file holds tensors that the run's model has no place for.

    PEFT drops them without an exception. What they were trained for is lost.

    Remedy: load them into the model that they were trained on, of the same class and transformers version;
    if the run's settings changed since, change them back.

    Source: https://github.com/huggingface/peft/issues/2699
    """
    yield Examined(len(loaded_adapter.tensors), "tensors of the file")
    for part, homeless in _by_part((fitted.part, fitted.tensor.name) for fitted in loaded_adapter.unexpected):
        of = sum(fitted.part is part for fitted in loaded_adapter.tensors)
        measured: dict[str, Json] = {"without a place": len(homeless), "tensors": of}
        measured["first"] = [name[:200] for name in homeless[:4]]
        if loaded_adapter.refusal:
            measured["PEFT's loader"] = loaded_adapter.refusal[:200]
        yield Finding(
            f"{_named(part)}: the model has no place for {len(homeless)} of {of} tensors; first: {homeless[0][:200]}",
            where=saved_adapter.where,
            measured=measured,
        )


@rule("VLC703", "wrapper-split", Severity.ERROR, explains=("VLC701", "VLC702"))
def wrapper_split(
    saved_adapter: SavedAdapter, loaded_adapter: LoadedAdapter, wrappers: Wrappers
) -> Iterator[Finding | Examined]:
    """The adapter was trained with clip wrappers that the run's model does not have, or the reverse.

    Gemma 4 keeps each linear layer of its towers inside a clip wrapper, so its adapter is saved as
    `q_proj.linear.lora_A`. A script that unwraps or replaces the wrappers saves `q_proj.lora_A`. Neither
    loads into the other: the tower's whole adapter is dropped, without an exception.

    Remedy: if the checkpoint does not clip (26B-A4B, 31B), rename the keys, which changes nothing else. If it
    clips (E2B, E4B), an adapter trained without the clamps belongs to the model without them: train again on
    the untouched model, or name the script's patch in `model.patch` to judge that one.

    Source: measured; 28 of 60 tensors of a tiny model are lost
    """
    split = rewrapped(
        [fitted.tensor.name for fitted in loaded_adapter.unexpected],
        {place.key for place in loaded_adapter.missing},
        wrappers.all,
    )
    yield Examined(len(wrappers.all), "clip wrappers")
    if split:
        key, place = next(iter(split.items()))
        unwrapped = len(place) > len(key)
        yield Finding(
            f"{len(split)} tensors were saved from a model {'without' if unwrapped else 'with'} clip wrappers, and "
            f"this one has {'them' if unwrapped else 'none there'}: the file's {key} is {place} here",
            where=saved_adapter.where,
            measured={
                "tensors lost": len(split),
                "of": len(loaded_adapter.tensors),
                "wrappers clip": bool(wrappers.clipping),
            },
            fix="" if wrappers.clipping else f"rename: {'insert' if unwrapped else 'remove'} .linear before .lora_",
        )


@rule("VLC704", "keys-renamed", Severity.ERROR, explains=("VLC701", "VLC702"))
def keys_renamed(saved_adapter: SavedAdapter, loaded_adapter: LoadedAdapter) -> Iterator[Finding | Examined]:
    """The file's keys start differently from the model's, and would fit if they were renamed.

    Between versions transformers renamed modules (`language_model.model.` to `model.language_model.`), and
    scripts that save a state dict by hand lose PEFT's `base_model.model.` or write it twice. PEFT knows
    some of these renamings and undoes them; this file's it does not, so nothing of it arrives.

    Remedy: rename as the finding says: with `key_mapping` of `PeftModel.from_pretrained`, or once and for all
    by loading the file with safetensors, renaming its keys, and saving it.

    Source: https://github.com/huggingface/peft/pull/2574
    """
    yield Examined(len(loaded_adapter.tensors), "keys of the file")
    changes = prefix_changes(
        {fitted.tensor.name: fitted.tensor.shape for fitted in loaded_adapter.unexpected},
        {place.key: place.shape for place in loaded_adapter.missing},
    )
    if changes:
        written = {old or "(start)": new or "(nothing)" for old, new in changes.items()}
        yield Finding(
            f"{len(loaded_adapter.unexpected)} of {len(loaded_adapter.tensors)} tensors would fit after "
            f"{'one renaming' if len(changes) == 1 else f'{len(changes)} renamings'}: "
            + "; ".join(f"{old} -> {new}" for old, new in written.items()),
            where=saved_adapter.where,
            measured={
                "tensors lost": len(loaded_adapter.unexpected),
                "still missing then": len(loaded_adapter.missing) - len(loaded_adapter.unexpected),
            },
            fix="\n".join(f"{old} -> {new}" for old, new in written.items()),
        )


@rule("VLC705", "shape-differs", Severity.ERROR)
def shape_differs(saved_adapter: SavedAdapter, loaded_adapter: LoadedAdapter) -> Iterator[Finding | Examined]:
    """Tensors have another shape than the run's model gives them, so loading fails.

    The rank differs from the config's `r`, or the layer has another width: the adapter belongs to another
    size of the model.

    Remedy: set `lora.r` and `lora.rank_pattern` as in training, and name the model that was trained.

    Source: https://huggingface.co/docs/peft/package_reference/lora
    """
    placed = [
        (fitted.tensor, fitted.place) for fitted in loaded_adapter.tensors if fitted.place and fitted.place.required
    ]
    yield Examined(len(placed), "tensors compared")
    wrong = ((place.part, (tensor, place)) for tensor, place in placed if tensor.shape != place.shape)
    for part, differing in _by_part(wrong):
        tensor, place = differing[0]
        yield Finding(
            f"{_named(part)}: {len(differing)} tensors have another shape than the model's; first: {tensor.name} "
            f"{list(tensor.shape)}, in the model {list(place.shape)}",
            where=saved_adapter.where,
            measured={"tensors": len(differing), "in the file": list(tensor.shape), "in the model": list(place.shape)},
        )


@rule("VLC706", "copy-missing", Severity.ERROR)
def copy_missing(
    saved_adapter: SavedAdapter, expected_adapter: ExpectedAdapter, loaded_adapter: LoadedAdapter
) -> Iterator[Finding | Examined]:
    """A module of `modules_to_save` has no copy in the file.

    Such a module was trained in full, and its copy is all there is of that. PEFT looks it up by name and
    raises KeyError where it is missing.

    Remedy: save again from the trained model, or take the module out of `modules_to_save` if it was not trained.

    Source: peft, utils/save_and_load.py, set_peft_model_state_dict
    """
    copies = [place for place in expected_adapter.required() if place.rank is None]
    if not copies:
        raise NotApplicable("the run saves no full copy of a module")
    yield Examined(len(copies), "tensors of full copies")
    for part, lacking in _by_part((place.part, place) for place in loaded_adapter.missing if place.rank is None):
        yield Finding(
            f"{_named(part)}: {len(lacking)} tensors of full copies are not in the file; first: {lacking[0].key}",
            where=saved_adapter.where,
            measured={"missing": len(lacking), "first": [place.key for place in lacking[:4]]},
        )


@rule("VLC707", "tied-copy", Severity.WARNING)
def tied_copy(
    lora: Lora, saved_adapter: SavedAdapter, loaded_adapter: LoadedAdapter, reference: nn.Module
) -> Iterator[Finding | Examined]:
    """The file holds a full copy of a weight that is tied to another.

    Head and embeddings of most of these models are one weight. A copy of one of them was trained away from
    the other. Merged with peft 0.21.2 the model has two weights and `tie_word_embeddings: false`, and is saved and
    loaded whole. By report, tools that take it for a model of one weight lose one of the two
    (https://github.com/huggingface/peft/issues/2777).

    Remedy: train again without it in `modules_to_save`, or with `ensure_weight_tying: true`. Until then use the
    adapter unmerged, or merge it with this release and see that the merged config says `tie_word_embeddings: false`.

    Source: https://github.com/huggingface/peft/issues/2864; measured in tests/adapters/test_tied_copies.py
    """
    settings = saved_adapter.settings.lora if saved_adapter.settings else None
    if not (lora.modules_to_save or (settings and settings.modules_to_save)):
        raise NotApplicable("no modules_to_save")
    pairs: dict[str, str] = getattr(reference, "all_tied_weights_keys", {})
    tied = {key for pair in pairs.items() for key in pair}
    copies = [fitted for fitted in loaded_adapter.tensors if ".lora_" not in fitted.tensor.name]
    yield Examined(len(copies), "full copies in the file")
    for copy in copies:
        name = copy.tensor.name.removeprefix("base_model.model.")
        if name in tied and not lora.ensure_weight_tying:
            yield Finding(
                f"{name} is tied to another weight, and the file holds a copy of {copy.tensor.numel:,} values",
                where=saved_adapter.where,
                measured={"copy": name, "stored_bytes": copy.tensor.bytes},
            )


def _by_part(items: Iterable[tuple[Part | None, Item]]) -> Iterable[tuple[Part | None, list[Item]]]:
    grouped: dict[Part | None, list[Item]] = {}
    for part, item in items:
        grouped.setdefault(part, []).append(item)
    return grouped.items()


def _named(part: Part | None) -> str:
    return part.value if part else "outside every part"
