"""VLC4xx: adapters that cannot learn, that should not be there, or that cost more than they seem to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.model.family import Family, Part
from vlcheck.rules.coverage import is_idle, trained_by

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.model.modules import ModuleTable
    from vlcheck.model.targets import Targets
    from vlcheck.model.tiny_run import Reach
    from vlcheck.spec import Lora, RunSpec


@rule("VLC406", "unreachable-adapter", Severity.ERROR, explains=("VLC413", "VLC009"))
def unreachable_adapter(spec: RunSpec, reach: Reach, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """No gradient reaches some adapters under the run's own checkpointing settings.

    Reentrant checkpointing drops the gradient of a block whose input needs none. Trainers make the inputs
    of a model require gradients; the vision towers of Gemma 4 and Qwen3-VL are passed over, because they
    name no input embedding. Where nothing below the first block is adapted, their adapters stay at their
    start, `lora_B = 0`, while the rest trains. There is no exception. Measured by one forward and backward
    of the same run in miniature.

    Remedy: `gradient_checkpointing_kwargs: {use_reentrant: false}`.

    Source: https://github.com/huggingface/peft/issues/2880
    """
    fed = [part for part in modules.parts() if not is_idle(spec, part)]
    yield Examined(sum(reach.of(part)[1] for part in fed), "trained modules")
    yield Examined(reach.probed, reach.what)
    kwargs = spec.training.gradient_checkpointing_kwargs
    reentrant = spec.training.gradient_checkpointing and kwargs is not None and bool(kwargs.use_reentrant)
    for part in fed:
        reached, total = reach.of(part)
        if reached < total:
            first = next(row.name for row in reach.unreached if row.part is part)
            yield Finding(
                f"{part.value}: no gradient reaches {total - reached} of {total} trained modules"
                f"{' under reentrant checkpointing' if reentrant else ''}; first: {first}",
                where=spec.where(
                    "training.gradient_checkpointing_kwargs.use_reentrant" if reentrant else "lora.target_modules"
                ),
                measured={"reached": reached, "trained modules": total, "use_reentrant": reentrant},
                fix="gradient_checkpointing_kwargs: {use_reentrant: false}" if reentrant else "",
            )


@rule("VLC407", "idle-adapter", Severity.WARNING, explains=("VLC413",))
def idle_adapter(spec: RunSpec, lora: Lora, modules: ModuleTable, targets: Targets) -> Iterator[Finding | Examined]:
    """A tower carries adapters, and no sample of the run's data enters it.

    `all-linear` adapts the audio tower of Gemma 4 E2B and E4B too. In a run on images these adapters
    cost memory and optimizer state, never change, and stop DDP over unused parameters.

    Remedy: exclude the tower, or name the modality in `data.modalities` if the data does hold it.

    Source: https://github.com/Roblox/FAI-RL/pull/105
    """
    from vlcheck.model.target_fixes import leaving_out

    idle = [part for part in modules.parts() if is_idle(spec, part)]
    if not idle:
        raise NotApplicable("every tower of this model is fed by the run's data")
    for part in idle:
        rows = modules.adapters(part)
        yield Examined(sum(1 for _ in modules.where(part=part)), f"modules of the {part.value}")
        if rows:
            yield Finding(
                f"{part.value}: {len(rows)} adapters that no sample reaches; the data holds "
                f"{' and '.join(spec.data.modalities)}",
                where=spec.where("lora.target_modules"),
                measured={"adapters": len(rows), "adapter parameters": sum(row.adapter_parameters for row in rows)},
                fix=leaving_out(lora, targets, [row.name for row in modules.where(part=part)]),
            )


@rule("VLC408", "router-adapted", Severity.WARNING)
def router_adapted(spec: RunSpec, lora: Lora, modules: ModuleTable, targets: Targets) -> Iterator[Finding | Examined]:
    """The experts' router is adapted.

    In Gemma 4 26B-A4B `all-linear` reaches the router, a linear layer, and not the experts, which are
    fused three-dimensional parameters. The run then moves which expert is asked, and no expert.
    (Qwen3-VL's router is no linear layer: `all-linear` passes it over.)

    Remedy: `exclude_modules: '.*router.*'`, or `intent: {router: train}` if it is meant.

    Source: measured on 26B-A4B; see the coverage tests.
    """
    if Part.ROUTER not in modules.parts():
        raise NotApplicable("the model has no router")
    if spec.intent.router == "train":
        raise NotApplicable("intent: the router is trained")
    from vlcheck.model.target_fixes import leaving_out

    yield Examined(sum(1 for _ in modules.where(part=Part.ROUTER)), "router modules")
    if trained := modules.trained(Part.ROUTER):
        yield Finding(
            f"{trained} router projections are adapted; experts adapted: {modules.trained(Part.EXPERTS)}",
            where=spec.where("lora.target_modules"),
            measured={"router modules": trained, "experts": modules.trained(Part.EXPERTS)},
            fix=leaving_out(lora, targets, [row.name for row in modules.where(part=Part.ROUTER)]),
        )


@rule("VLC409", "tied-weight-saved", Severity.WARNING)
def tied_weight_saved(
    spec: RunSpec, lora: Lora, modules: ModuleTable, reference: nn.Module
) -> Iterator[Finding | Examined]:
    """A weight that is tied to another is in `modules_to_save`.

    `modules_to_save` trains a full copy of each module that it names, and does not tie the copies: head and embeddings
    drift apart, and each copy of a 262,144-word vocabulary costs gigabytes. It is a warning because nothing is lost
    with peft 0.21.2 and transformers 5.23: such an adapter loads as it was trained, and a merge gives a model of two
    weights with `tie_word_embeddings: false`, saved and loaded whole. By report, tools that take such a model for one
    with one weight drop one of the two (https://github.com/huggingface/peft/issues/2777).

    Remedy: leave it out; to train it all the same, set `ensure_weight_tying: true`.

    Source: https://github.com/huggingface/peft/issues/2864; measured in tests/adapters/test_tied_copies.py
    """
    if not lora.modules_to_save:
        raise NotApplicable("no modules_to_save")
    tied = {key.rpartition(".")[0] for pair in _tied_pairs(reference) for key in pair}
    saved = [row for row in modules.rows if row.saved]
    untied = [e for e in lora.modules_to_save if not any(name == e or name.endswith(f".{e}") for name in tied)]
    yield Examined(len(saved), "modules trained in full")
    for row in saved:
        if row.name in tied and not lora.ensure_weight_tying:
            yield Finding(
                f"{row.name} is tied to another weight and saved as a copy of {row.parameters:,} parameters",
                where=spec.where("lora.modules_to_save"),
                measured={"module": row.name, "parameters": row.parameters},
                fix=f"modules_to_save: [{', '.join(untied)}]" if untied else "remove modules_to_save",
            )


@rule("VLC410", "vision-tower-4bit", Severity.NOTE)
def vision_tower_4bit(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """The vision tower is quantised too.

    bitsandbytes quantises every linear layer that is not on the skip list, and the default list names
    the head and its ties alone. The tower is a small share of the weights and, by report, loses accuracy
    in 4 bits.

    Remedy: to keep it whole, name it in `llm_int8_skip_modules` from the start of its path
    (`model.vision_tower`; `vision_tower` alone matches nothing). The list replaces the default one: repeat
    `lm_head` there.

    Source: https://github.com/unslothai/unsloth/issues/3639 (reported; not measured here)
    """
    if spec.quantization is None:
        raise NotApplicable("the base is not quantised")
    linears = [row for row in modules.where(part=Part.VISION) if "Linear" in row.kind and row.parameters]
    if not linears:
        raise NotApplicable("the model has no vision tower")
    yield Examined(len(linears), "linear layers of the vision tower")
    if quantised := [row for row in linears if row.quantised]:
        yield Finding(
            f"{len(quantised)} of {len(linears)} linear layers of the vision tower are quantised",
            where=spec.where("quantization.llm_int8_skip_modules"),
            measured={"quantised": len(quantised), "linear layers": len(linears)},
        )


@rule("VLC412", "experts-not-adapted", Severity.WARNING)
def experts_not_adapted(
    spec: RunSpec, lora: Lora, modules: ModuleTable, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """The experts, most of the model, carry no adapter.

    Fused experts are three-dimensional parameters, which no `target_modules` entry reaches, `all-linear`
    included. The run trains the small dense share of the model and reports a tiny trainable count.

    Remedy: `target_parameters` (with `lora_dropout: 0`), or say that it is meant: `intent: {experts: freeze}`.

    Source: https://github.com/huggingface/peft/issues/2527
    """
    if Part.EXPERTS not in modules.parts():
        raise NotApplicable("the model has no experts")
    if spec.intent.experts is not None:
        raise NotApplicable(f"intent.experts is {spec.intent.experts}")
    rows = list(modules.where(part=Part.EXPERTS))
    yield Examined(len(rows), "modules of experts")
    if not modules.trained(Part.EXPERTS):
        held = sum(row.parameters for row in rows)
        share = held / sum(row.parameters for row in modules.rows)
        yield Finding(
            f"experts hold {share:.0%} of the model's parameters and carry no adapter",
            where=spec.where("lora.target_modules"),
            measured={"parameters": held, "share": share},
            fix="; or ".join(
                filter(None, ("intent: {experts: freeze}", trained_by(Part.EXPERTS, spec, modules, reference, family)))
            ),
        )


@rule("VLC413", "ddp-unused-adapter", Severity.ERROR)
def ddp_unused_adapter(spec: RunSpec, lora: Lora, reach: Reach, targets: Targets) -> Iterator[Finding | Examined]:
    """Several GPUs, and adapters that no gradient reaches: DDP stops in the second step.

    DistributedDataParallel waits for a gradient of every trainable parameter. Where one never comes it
    raises "Expected to have finished reduction in the prior iteration". vlcheck's own loop has DDP look for such
    parameters; there VLC406 and VLC407 say what does not train.

    Remedy: exclude the modules that are listed, or train on one GPU.

    Source: https://github.com/modelscope/ms-swift/pull/9180
    """
    if spec.hardware.count == 1 or spec.training.fsdp or spec.training.zero_optimization:
        other = "FSDP" if spec.training.fsdp else "DeepSpeed"
        raise NotApplicable("one GPU" if spec.hardware.count == 1 else f"the run uses {other}, not DDP")
    if spec.training.framework == "vlcheck":
        raise NotApplicable("vlcheck's own loop goes on where an adapter gets no gradient")
    unused = (*reach.unreached, *reach.dropped)
    yield Examined(len(reach.reached) + len(unused), "trained modules")
    if unused:
        from vlcheck.model.target_fixes import leaving_out

        yield Finding(
            f"{len(unused)} trained modules get no gradient on {spec.hardware.count} GPUs; first: {unused[0].name}",
            where=spec.where("hardware.count"),
            measured={"without gradient": len(unused), "trained modules": len(reach.reached) + len(unused)},
            fix=leaving_out(lora, targets, [row.name for row in unused]),
        )


@rule("VLC414", "default-targets", Severity.NOTE, explains=("VLC404",))
def default_targets(
    spec: RunSpec, lora: Lora, targets: Targets, modules: ModuleTable, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """No targets are named, so a default decides what trains: the framework's, else PEFT's.

    For Gemma 4 PEFT's is a regex for the q and v projections of the language model; vision tower and projector
    stay as they are. LLaMA-Factory and ms-swift freeze the same parts, Unsloth picks layers by their names.

    Remedy: write `target_modules`.

    Source: peft, utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    """
    from vlcheck.model.aim import choices_of_framework

    yield Examined(len(targets.modules), "targeted modules")
    own = "; ".join(choices_of_framework(spec)) if lora.target_modules is None else ""
    if targets.default is not None or own:
        frozen = [part.value for part in modules.parts() if not modules.trained(part)]
        whose = own or f"PEFT's default {targets.default!r}"
        yield Finding(
            f"target_modules is not set: {whose} adapts {len(targets.modules)} modules and "
            f"leaves {' and '.join(frozen) or 'no part'} frozen",
            where=spec.where("lora.target_modules"),
            measured={"modules": len(targets.modules)},
            fix=trained_by(Part.LANGUAGE, spec, modules, reference, family),
        )


def _tied_pairs(model: nn.Module) -> list[tuple[str, str]]:
    pairs: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
    return list(pairs.items())
