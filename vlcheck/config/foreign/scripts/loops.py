"""What a loop without a trainer is made of, put into the document of its script."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace

from vlcheck.config.foreign.scripts import pure
from vlcheck.config.foreign.scripts.chains import under
from vlcheck.config.foreign.scripts.document import Document
from vlcheck.config.foreign.scripts.expressions import evaluate
from vlcheck.config.foreign.scripts.scope import Scope, Script
from vlcheck.config.foreign.scripts.tables import OPTIMIZERS, SCHEDULERS
from vlcheck.config.foreign.scripts.training import Training
from vlcheck.config.foreign.scripts.values import Entries, Items, Made, Value, line_of, truth


def put_loop(document: Document, script: Script, training: Training) -> None:
    """Put the loader, the optimizer, the schedule and the epochs of a loop."""
    if training.loader is not None:
        document.call("DataLoader", training.loader, ("dataset", "batch_size"), leave=("dataset", "collate_fn"))
    for call in script.calls:
        if call.callee in OPTIMIZERS or call.callee.rpartition(".")[2] in _SHORT:
            document.call("optimizer", call, ("params", "lr"), leave=("params",))
            path = call.callee if call.callee in OPTIMIZERS else _SHORT[call.callee.rpartition(".")[2]]
            document.set("optimizer.called", OPTIMIZERS[path], call.where)
            _groups(document, call)
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
    _autocast(document, script)
    if (accumulation := _accumulation(script)) is not None:
        document.put("accumulation", accumulation)
    clip = next(under(script.calls, "clip_grad_norm_"), None)
    if clip is not None:
        document.call("clip_grad_norm_", clip, ("parameters", "max_norm"), leave=("parameters",))
    epochs = next((over for name, over in script.loops if "epoch" in name.lower()), None)
    if isinstance(epochs, Made) and epochs.callee == "builtins.range" and len(epochs.arguments) == 1:
        document.put("epochs", epochs.arguments[0])


def _groups(document: Document, optimizer: Made) -> None:
    """What all groups of an optimizer have in common takes the place of what it is given for all."""
    given = optimizer.given("params", 0)
    groups = given.items if isinstance(given, Items) else []
    for name in ("lr", "weight_decay"):
        own = [group.entries[name] for group in groups if isinstance(group, Entries) and name in group.entries]
        if not own:
            continue
        same = len(own) == len(groups) and all(pure.compared(ast.Eq(), own[0], other) for other in own)
        if same:
            document.put(f"optimizer.{name}", own[0])
        else:
            document.doubt(f"optimizer.{name}", own[0], own[0].where)
            document.said[f"{line_of(own[0].where)}: groups of the optimizer differ in {name}"] = None


def _autocast(document: Document, script: Script) -> None:
    """The precision of the forward, where the loop sets it; float16 by default on a GPU, torch/amp/autocast_mode.py."""
    for call in script.calls:
        if call.callee in ("torch.autocast", "torch.amp.autocast", "torch.cuda.amp.autocast"):
            cuda = call.callee == "torch.cuda.amp.autocast"
            names = ("enabled", "dtype") if cuda else ("device_type", "dtype", "enabled")
            on, kind = (call.given(name, names.index(name)) for name in ("enabled", "dtype"))
            if on is None or truth(on) is not False:
                document.call("autocast", call, names)
            if kind is None and "autocast" in document.given:
                document.set("autocast.dtype", "float16", call.where)
            return


def _accumulation(script: Script) -> Value | None:
    """The number in `if (step + 1) % N == 0:` around the optimizer's step; None where there is no such line."""
    step = next((call for call in script.calls if call.callee == ".step"), None)
    scope = step.scope if step is not None else None
    for node in (inner for top in script.source.body for inner in ast.walk(top)):
        if isinstance(node, ast.If) and isinstance(scope, Scope) and any(map(_steps, ast.walk(node))):
            for part in ast.walk(node.test):
                if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mod):
                    value = evaluate(part.right, scope)
                    return replace(value, where=script.place(part))
    return None


def _steps(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "step" and "optim" in ast.unparse(called.value)


_SHORT: Mapping[str, str] = {path.rpartition(".")[2]: path for path in OPTIMIZERS}
