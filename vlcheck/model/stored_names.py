"""Where each tensor of a base's files goes in the model, by the names that transformers knows for its family.

Functions of transformers' loader that have no public door are called here (seen in 5.23).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """Where a tensor of a file goes."""

    name: str
    """Parameter or buffer of the model; of a tensor that transformers passes over, a name that the model lacks."""
    whole: bool
    """It is that parameter as it stands; else it is turned, or joined with others, on the way."""


def stored_places(model: nn.Module, keys: Iterable[str]) -> Mapping[str, StoredPlace]:
    """Where `from_pretrained` puts each tensor of a checkpoint, by its key in the files.

    Args:
        model: the transformers model, without storage or live.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, rename_source_key

    base: Any = model
    steps = get_model_conversion_mapping(base)
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    renamings = [step for step in steps if not isinstance(step, WeightConverter)]
    own, prefix = base.state_dict(), base.base_model_prefix
    places = {}
    for key in keys:
        name, converter = rename_source_key(key, renamings, converters, prefix, own)
        if name not in own and key in own:  # a name of the model itself, which a pattern has met by chance
            name, converter = rename_source_key(key, [], [], prefix, own)
        places[key] = StoredPlace(name, converter is None)
    return places
