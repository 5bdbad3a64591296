"""A family that has no record: its parts, derived from a built model's own submodels.

transformers composes a vision-language model of models, each a `PreTrainedModel` with a config of its own.
The one that holds the input embeddings is the language model; one built from `vision_config` or
`audio_config`, or that by its `input_modalities` takes nothing but images or sound, is a tower; what lies
between them is the projector. Names of modules decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vlcheck.model.family import Family, Part, Values

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

DOUBT = (
    "unknown family: parts are derived from the model's own submodels; a projector inside the vision tower counts "
    "as the tower, and no gradient was measured"
)

FINEST = 28
"""Side in pixels that a soft token covers at the least in the families whose images take any number of them, LLaVA's
kin aside: what is assumed of a family that nothing is known of."""


def derive(values: Values, model: PreTrainedModel) -> Family:
    """A family of one model, without a tiny run.

    Args:
        values: its config.json.
        model: the model as transformers builds it; meta tensors will do.

    Raises:
        LookupError: if no language model or no other part can be told apart.
    """
    kind = str(values.get("model_type"))
    parts = dict(_parts("", model, model))
    language = [path for path, part in parts.items() if part is Part.LANGUAGE]
    if not any(_is_model(model.get_submodule(path)) for path in language) or len(language) == len(parts):
        raise LookupError(f"model_type {kind!r} is of no family that vlcheck knows, and its model's submodels do not "
                          "tell its parts apart")  # fmt: skip
    parts |= _experts(model, language)
    return Family(name=kind, model_types=(kind,), parts=parts, soft_token_side=FINEST, doubt=DOUBT)


def _parts(path: str, module: nn.Module, model: PreTrainedModel) -> Iterator[tuple[str, Part]]:
    """Descend until a module is of one part; a parameter on the way down lies between the parts."""
    words, head = model.get_input_embeddings(), model.get_output_embeddings()
    if path and next(module.parameters(recurse=False), None) is not None:
        yield path, Part.PROJECTOR
    for name, child in module.named_children():
        inner = f"{path}.{name}".lstrip(".")
        inside = [each for each in child.modules() if each is not child and (each is words or _is_model(each))]
        if child is head or child is words:
            yield inner, Part.LANGUAGE
        elif _is_model(child) and inside in ([], [words]):
            yield inner, Part.LANGUAGE if inside else _tower(child, model)
        elif _is_model(child) and len(_senses(child)) == 1:
            yield inner, Part.LANGUAGE if words in inside else _tower(child, model)
        elif inside:
            yield from _parts(inner, child, model)
        elif next(child.parameters(), None) is not None:
            yield inner, Part.PROJECTOR


def _is_model(module: nn.Module) -> bool:
    from transformers import PreTrainedModel

    return isinstance(module, PreTrainedModel)


def _tower(submodel: nn.Module, model: PreTrainedModel) -> Part:
    """What a submodel without word embeddings is; one with another config, as a Q-Former has, connects."""
    configs = {key: type(getattr(model.config, key, None)) for key in type(model.config).sub_configs}
    keys = [key for key, kind in configs.items() if kind is type(submodel.config)]
    senses = _senses(submodel)
    if "vision_config" in keys or (not keys and senses and senses <= {"image", "video"}):
        return Part.VISION
    return Part.AUDIO if "audio_config" in keys or (not keys and senses == {"audio"}) else Part.PROJECTOR


def _senses(model: nn.Module) -> set[str]:
    """The modalities that a model takes."""
    stated: Any = model.input_modalities
    return {stated} if isinstance(stated, str) else set(stated)


def _experts(model: nn.Module, language: list[str]) -> Iterator[tuple[str, Part]]:
    """Modules that own stacked weights, and the siblings that choose among as many as are stacked."""
    from torch.nn.modules.conv import _ConvNd

    for root in language:
        for name, module in model.get_submodule(root).named_modules(prefix=root):
            for inner, child in module.named_children():
                stacked = {p.shape[0] for p in child.parameters(recurse=False) if p.ndim > 2 and p.is_floating_point()}
                if stacked and not isinstance(child, _ConvNd):
                    yield f"{name}.{inner}", Part.EXPERTS
                    for beside, sibling in module.named_children():
                        if any(p.ndim == 2 and p.shape[0] in stacked for p in sibling.parameters()):
                            yield f"{name}.{beside}", Part.ROUTER
