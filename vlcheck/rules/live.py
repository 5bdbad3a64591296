"""VLC0xx: what only a running job shows: its optimizer, its modes, its own batches, its first gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.gpus import show_gib
from vlcheck.rules.coverage import is_idle
from vlcheck.rules.rows import few

if TYPE_CHECKING:
    from vlcheck.evidence.live_run import LiveRun
    from vlcheck.memory.plan import MemoryPlan
    from vlcheck.model.attached import Attached
    from vlcheck.model.dropout import Dropouts
    from vlcheck.model.family import Part
    from vlcheck.model.first_forward import FirstForward
    from vlcheck.model.gradients import PartGradients
    from vlcheck.model.optimizer_groups import OptimizerGroups
    from vlcheck.spec import RunSpec


@rule("VLC001", "attached-twice", Severity.ERROR, explains=("VLC415",))
def attached_twice(spec: RunSpec, attached_adapters: Attached) -> Iterator[Finding | Examined]:
    """Adapters were attached twice.

    PEFT warns and goes on: a second `get_peft_model` draws the first one's weights again or puts adapters into
    adapters, two PEFT models stand one inside another, and what is saved has names that no loader expects.

    Remedy: attach once; hand a trainer either a PEFT model or a `peft_config`, never both.

    Source: measured in tests/integrations/test_planted_faults.py; peft 0.21, mapping_func.py:148.
    """
    layers = attached_adapters.layers
    yield Examined(sum(layers.values()), "adapted modules")
    told = []
    if attached_adapters.depth > 1:
        told.append(f"{attached_adapters.depth} PEFT models stand one inside another")
    if attached_adapters.nested:
        told.append(
            f"{len(attached_adapters.nested)} adapted modules sit inside adapted modules, first "
            f"{attached_adapters.nested[0]}"
        )
    if told:
        yield Finding(
            f"{'; '.join(told)}; allowed: one PEFT model",
            where=spec.where("lora"),
            measured={"PEFT models": attached_adapters.depth, "adapters": ", ".join(layers)},
            fix="call get_peft_model once, and leave peft_config out where the model has adapters",
        )


@rule("VLC002", "adapters-frozen", Severity.ERROR, explains=("VLC401", "VLC402", "VLC403", "VLC404", "VLC411"))
def adapters_frozen(spec: RunSpec, attached_adapters: Attached) -> Iterator[Finding | Examined]:
    """Adapters are active and frozen.

    What freezes the base after adapters were attached freezes them too: a loop over `parameters()`,
    `requires_grad_(False)`, a second `prepare_model_for_kbit_training`, an adapter loaded without `is_trainable`. A
    part whose adapters are frozen trains nothing, and the loss of the others falls all the same.

    Remedy: freeze first and attach then; load an adapter with `is_trainable=True` to train it on.

    Source: measured in tests/integrations/test_planted_faults.py.
    """
    frozen, tensors = attached_adapters.frozen, attached_adapters.tensors
    yield Examined(tensors, "tensors of active adapters")
    if frozen:
        yield Finding(
            f"{len(frozen)} of {tensors} tensors of active adapters require no gradient, first {frozen[0]}; allowed: "
            "none. They were frozen after they were attached, or loaded without is_trainable",
            where=spec.where("lora"),
            measured={"frozen tensors": len(frozen), "of": tensors},
            fix="freeze the base before get_peft_model, not after it",
        )


@rule("VLC003", "parameter-in-no-group", Severity.ERROR)
def parameter_in_no_group(spec: RunSpec, groups: OptimizerGroups) -> Iterator[Finding | Examined]:
    """Parameters require gradients and stand in no group of the optimizer.

    Their gradients are computed, cost memory, and change nothing. An optimizer that was built before the adapters were
    attached holds the base's parameters alone, all of them frozen by then.

    Remedy: build the optimizer last, from the parameters that require gradients.

    Source: measured in tests/integrations/test_planted_faults.py.
    """
    yield Examined(groups.trained, "parameters that require gradients")
    yield Examined(groups.held, "parameters in the optimizer's groups")
    if groups.missing:
        early = len(groups.missing) == groups.trained
        cause = ": it was built before they were made, or from other parameters" if early else ""
        yield Finding(
            f"{len(groups.missing)} of {groups.trained} trained parameters are in no group of the optimizer, first "
            f"{groups.missing[0]}{cause}",
            where=spec.where("training.optim"),
            measured={
                "in no group": len(groups.missing),
                "frozen in a group": len(groups.frozen),
                "of another model": groups.foreign,
            },
            fix="build the optimizer after the adapters: [p for p in model.parameters() if p.requires_grad]",
        )


@rule("VLC004", "idle-group", Severity.NOTE)
def idle_group(spec: RunSpec, groups: OptimizerGroups) -> Iterator[Finding | Examined]:
    """The optimizer holds parameters that are frozen, or no part of the model.

    Frozen ones cost little: they get no gradient and no state. Parameters of another model are what an optimizer
    steps that was built for it, or before the model was replaced.

    Remedy: give it the parameters that require gradients, and no other.

    Source: measured in tests/integrations/test_planted_faults.py.
    """
    yield Examined(groups.held, "parameters in the optimizer's groups")
    if groups.frozen or groups.foreign:
        told = [f"{len(groups.frozen)} are frozen"] * bool(groups.frozen)
        told += [f"{groups.foreign} belong to no module of this model"] * bool(groups.foreign)
        yield Finding(
            f"of {groups.held} parameters in the optimizer's groups {' and '.join(told)}",
            where=spec.where("training.optim"),
            measured={"frozen": len(groups.frozen), "of another model": groups.foreign},
            fix="[p for p in model.parameters() if p.requires_grad]",
        )


@rule("VLC007", "dropout-off", Severity.ERROR)
def dropout_off(spec: RunSpec, dropout: Dropouts, live_run: LiveRun) -> Iterator[Finding | Examined]:
    """The model trains in evaluation mode: its dropout drops nothing.

    `from_pretrained` returns a model in evaluation mode (adapters that PEFT adds to it begin in training mode), and so
    does whatever generated or evaluated last. Without `model.train()` the run has no dropout, and gradient
    checkpointing does not checkpoint.

    Remedy: `model.train()` before the first step, and after each evaluation.

    Source: measured in tests/integrations/test_planted_faults.py.
    """
    yield Examined(dropout.layers, "dropout layers")
    if dropout.off:
        whole = "the model is in evaluation mode" if live_run.mode is False else "a part is in evaluation mode"
        yield Finding(
            f"{whole}: {len(dropout.off)} of {dropout.layers} dropout layers (up to {dropout.largest:g}) drop nothing, "
            f"first {dropout.off[0]}",
            where=spec.where("lora.lora_dropout"),
            measured={"off": len(dropout.off), "layers": dropout.layers, "dropout": dropout.largest},
            fix="model.train() before the loop",
        )


@rule("VLC008", "batch-fails", Severity.ERROR)
def batch_fails(spec: RunSpec, forward_seen: FirstForward) -> Iterator[Finding | Examined]:
    """The model raises an error on the run's first batch.

    Soft tokens and image features that are not equally many, ids beyond the embedding, a key that the forward does not
    take: the first step would stop with the same words.

    Remedy: see the model's own words.

    Source: measured in tests/integrations/test_live_rules.py.
    """
    yield Examined(1, "batch run through the live model, up to its head")
    if forward_seen.error:
        yield Finding(
            f"the model refuses the run's first batch: {forward_seen.error}",
            where=spec.where("data"),
            measured={"error": forward_seen.error},
        )


@rule("VLC009", "no-gradient", Severity.ERROR)
def no_gradient(
    spec: RunSpec, gradients: Mapping[Part, PartGradients]
) -> Iterator[Finding | Examined]:  # fmt: skip
    """A part is trained, and the first backward pass brought it no gradient, or one that is not finite.

    What is cut off from the loss stays at its start while the rest trains: a tower under `torch.no_grad`, an output
    that was detached, a loss over no label. A module counts by all its tensors together, since `lora_A` has no
    gradient in the first step. Infinite gradients of fp16 are left to the loss scaler.

    Remedy: see what stands between the part and the loss; for NaN, the batch and the precision of its forward.

    Source: measured in tests/integrations/test_callback.py.
    """
    fed = {part: found for part, found in gradients.items() if not is_idle(spec, part)}
    yield Examined(sum(found.modules for found in fed.values()), "trained modules")
    for part, found in fed.items():
        without = len(found.none) + len(found.zero)
        if without == found.modules:
            kind = "no gradient" if len(found.none) == without else "a zero gradient"
            yield Finding(
                f"{part.value}: all {found.modules} trained modules have {kind} after the first backward pass",
                where=spec.where("lora.target_modules"),
                measured={"modules": found.modules, "without gradient": len(found.none), "zero": len(found.zero)},
            )
        elif found.not_finite and not spec.training.fp16:
            yield Finding(
                f"{part.value}: gradients of {len(found.not_finite)} of {found.modules} trained modules are NaN or "
                f"infinite after the first backward pass: {few(found.not_finite, len(found.not_finite))}",
                where=spec.where("training"),
                measured={"modules": found.modules, "not finite": len(found.not_finite)},
            )


@rule("VLC010", "above-projection", Severity.WARNING)
def above_projection(spec: RunSpec, measured_peak: int, memory_plan: MemoryPlan) -> Iterator[Finding | Examined]:
    """The first step took more of the card than was projected for the run's largest one.

    The projection knows model, adapters, optimizer and rows; what it does not know is what the script keeps beside:
    a second copy of the model, batches that are not let go, a forward in another precision. Rows to come may be larger
    than the first.

    Remedy: compare the parts in `torch.cuda.memory_summary()` with those of `vlcheck fit`.

    Source: docs/memory.md
    """
    if not measured_peak:
        raise NotApplicable("nothing was allocated")
    yield Examined(measured_peak, "bytes allocated at the worst moment of the first step")
    if measured_peak > memory_plan.upper_bytes:
        yield Finding(
            f"the first step took {show_gib(measured_peak)}; projected for the largest one: "
            f"{show_gib(memory_plan.allocated_bytes)}, at most {show_gib(memory_plan.upper_bytes)}",
            where=spec.where("training.per_device_train_batch_size"),
            measured={"measured bytes": measured_peak, "projected bytes": memory_plan.allocated_bytes},
        )
