"""VLC1xx: whether the base's stored weights are all of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, Severity, rule

if TYPE_CHECKING:
    from vlcheck.model.base_weights import StoredBase
    from vlcheck.spec import RunSpec


@rule("VLC114", "base-not-whole", Severity.ERROR)
def base_not_whole(spec: RunSpec, stored_base: StoredBase) -> Iterator[Finding | Examined]:
    """The base's safetensors are not exactly the weights of its model.

    transformers draws weights at random that no file holds, drops tensors that have no place, and says so in a
    warning. A base that was cut short, or saved under other names, then trains as if it were whole, and its
    adapter is worth nothing. Judged from the headers of local files by transformers' own loader, which knows
    what is tied, renamed or left out on purpose.

    Remedy: download the checkpoint again, or save it with save_pretrained of the class that is trained.

    Source: https://huggingface.co/docs/transformers/main_classes/model (`output_loading_info`)
    """
    yield Examined(stored_base.tensors, "stored tensors")
    if stored_base.misfits:
        yield Finding(
            stored_base.misfits,
            where=spec.where("model.id"),
            measured={"stored tensors": stored_base.tensors},
            fix="download the checkpoint again; vlcheck trains and evaluates no part of a base",
        )
