"""What a loop without a trainer is made of, put into the document of its script."""

from __future__ import annotations

from collections.abc import Mapping

from vlcheck.config.foreign.scripts.chains import under
from vlcheck.config.foreign.scripts.document import Document
from vlcheck.config.foreign.scripts.scope import Script
from vlcheck.config.foreign.scripts.tables import OPTIMIZERS, SCHEDULERS
from vlcheck.config.foreign.scripts.training import Training
from vlcheck.config.foreign.scripts.values import Made


def put_loop(document: Document, script: Script, training: Training) -> None:
    """Put the loader, the optimizer, the schedule and the epochs of a loop."""
    if training.loader is not None:
        document.call("DataLoader", training.loader, ("dataset", "batch_size"), leave=("dataset", "collate_fn"))
    for call in script.calls:
        if call.callee in OPTIMIZERS or call.callee.rpartition(".")[2] in _SHORT:
            document.call("optimizer", call, ("params", "lr"), leave=("params",))
            path = call.callee if call.callee in OPTIMIZERS else _SHORT[call.callee.rpartition(".")[2]]
            document.set("optimizer.called", OPTIMIZERS[path], call.where)
            break
    for call in script.calls:
        if call.callee == "accelerate.Accelerator":
            document.call("Accelerator", call)
            break
    for call in script.calls:
        if call.callee in SCHEDULERS:
            names = ("name", "optimizer", "num_warmup_steps") if not SCHEDULERS[call.callee] else (
                "optimizer", "num_warmup_steps")  # fmt: skip
            document.call("scheduler", call, names, leave=("optimizer", "num_training_steps"))
            if SCHEDULERS[call.callee]:
                document.set("scheduler.name", SCHEDULERS[call.callee], call.where)
            break
    clip = next(under(script.calls, "clip_grad_norm_"), None)
    if clip is not None:
        document.call("clip_grad_norm_", clip, ("parameters", "max_norm"), leave=("parameters",))
    epochs = next((over for name, over in script.loops if "epoch" in name.lower()), None)
    if isinstance(epochs, Made) and epochs.callee == "builtins.range" and len(epochs.arguments) == 1:
        document.put("epochs", epochs.arguments[0])


_SHORT: Mapping[str, str] = {path.rpartition(".")[2]: path for path in OPTIMIZERS}
