"""The base as transformers ships it, whatever a patch has made of its classes: what it accepts, what it would load.

Private names of transformers are touched here, each with its reason.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.initialization import no_init_weights

from vlcheck.model.base_weights import StoredBase, stored_misfits
from vlcheck.model.build import UnbuildableConfig, build_base, transformers_config
from vlcheck.model.family import Values


def build_reference(config: Values) -> nn.Module:
    """The base on meta as transformers ships it, even where a patch has changed its classes meanwhile.

    The modelling file is executed a second time under a private name, and its classes stand in for
    the patched ones while the model is built.

    Raises:
        UnbuildableConfig: if transformers rejects the config.
    """
    touched = sys.modules[_model_class(config).__module__]
    with _classes_of(_second_copy(touched), touched), no_init_weights():  # nothing can be drawn without storage
        base: Any = build_base(config)
    base.tie_weights()
    return base  # type: ignore[no-any-return]


def read_stored_base(folder: Path, config: Values, dtype: str) -> StoredBase:
    """What `load_base` would refuse of a folder's weights, from their headers.

    Args:
        folder: with the safetensors: the user's, or that of a revision in the Hugging Face cache.

    Raises:
        Unavailable, NotApplicable: as `stored_misfits` does.
        UnbuildableConfig: if transformers rejects the config.
    """
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    return stored_misfits(folder, config, _model_class(plain), transformers_config(plain), dtype)


def _model_class(config: Values) -> type:
    resolved = transformers_config(config)
    try:
        cls: type = AutoModelForImageTextToText._model_mapping[type(resolved)]  # no public route; seen in 5.17, 5.23
    except KeyError as error:
        raise UnbuildableConfig(f"{config.get('model_type')} is not an image-text-to-text model") from error
    return cls


def _second_copy(module: ModuleType) -> ModuleType:
    name = f"{module.__package__}._untouched_{module.__name__.rpartition('.')[2]}"
    if name not in sys.modules:
        location = inspect.getsourcefile(module)
        spec = importlib.util.spec_from_file_location(name, location)
        if spec is None or spec.loader is None:
            raise UnbuildableConfig(f"the source of {module.__name__} cannot be read")
        copy = importlib.util.module_from_spec(spec)
        sys.modules[name] = copy
        logging.disable(logging.WARNING)
        try:
            spec.loader.exec_module(copy)
        finally:
            logging.disable(logging.NOTSET)
    return sys.modules[name]


@contextmanager
def _classes_of(source: ModuleType, target: ModuleType) -> Iterator[None]:
    """Let `target`'s building blocks be those of `source` for a while.

    Whole models stay: the auto classes remember the first one they meet.
    """
    names = [
        name
        for name, value in vars(source).items()
        if isinstance(value, type)
        and value.__module__ == source.__name__
        and not issubclass(value, PreTrainedModel)
        and name in vars(target)
    ]
    before = {name: vars(target)[name] for name in names}
    vars(target).update({name: vars(source)[name] for name in names})
    try:
        yield
    finally:
        vars(target).update(before)
