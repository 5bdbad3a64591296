"""For each rule a broken run that it catches and a sound run on which it is silent.

Every run is one small change to the same sound base: a real tiny Gemma 4 that clips, adapted by
`all-linear`, with an intent that says so and a checkpoint that stores finite clip bounds.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from safetensors.torch import load_file, save_file

from tests import data_samples, label_samples, tiny
from tests.broken import patches
from vlcheck.engine import audit
from vlcheck.evidence.resolve import Evidence
from vlcheck.evidence.snapshot import Snapshot
from vlcheck.finding import NotApplicable, Report, Rule, Unavailable
from vlcheck.gpus import Gpu
from vlcheck.model.attention import attention_support
from vlcheck.model.base_weights import StoredBase
from vlcheck.model.build import Weights, build_unadapted
from vlcheck.model.config import ModelConfig
from vlcheck.model.reference import build_reference
from vlcheck.processing.lengths import Lengths, RowLength
from vlcheck.spec import (
    CheckpointingKwargs,
    Generation,
    Hardware,
    Intent,
    Launch,
    Location,
    Lora,
    ModelRef,
    Origin,
    Outdated,
    Quantization,
    RunSpec,
    Training,
    Unread,
)

TOWER_LIST = tuple(f"{name}_proj.linear" for name in ("q", "k", "v", "o", "gate", "up", "down"))
LANGUAGE = r"model\.language_model\..*_proj"
VISION = r"model\.vision_tower\.encoder\..*\.linear"
PROJECTOR = r"model\.embed_vision\.embedding_projection"
NF4 = Quantization(load_in_4bit=True, bnb_4bit_quant_type="nf4")
ROWS = 8
"""Rows of a run's data whose labels are judged: no sample has a fault in what labels are put on."""
TRAIN_ALL = Intent(vision="train", projector="train", language="train")
BASE = RunSpec(
    model=ModelRef(id="none", dtype="float32"),
    lora=Lora(r=4, lora_alpha=4, target_modules="all-linear"),
    training=Training(framework="vlcheck", gradient_checkpointing=True),
    intent=TRAIN_ALL,
)
"""The sound run that every other differs from, its model's folder aside."""
LABELS = ("processor", "own_collator", "checks", "trial")
ADAPTED = ("skeleton", "modules", "targets", "tiny", "reach", "cache_effect", "containment")


def judged_labels(model: Callable[[], dict[str, Any]], *, with_rows: bool = True) -> dict[str, Any]:
    """What the label rules see of our collator on a model: the same for every run that differs elsewhere.

    Args:
        with_rows: whether the built-in rows were all that was judged; a run with data has checks of its own.
    """
    judged = _judged_labels(model)
    return judged if with_rows else {name: value for name, value in judged.items() if name != "checks"}


@cache
def _judged_labels(model: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    known = {"config": ModelConfig(model(), "test"), "reference": untouched(model)}
    evidence = Evidence(RunSpec(model=ModelRef(id="none"), lora=Lora()), known)
    return {"reference": known["reference"], **gathered(evidence, LABELS)}


@cache
def untouched(model: Callable[[], dict[str, Any]]) -> Any:
    """The model on meta that no patch and no adapter has touched: the same for every run of it."""
    return build_reference(ModelConfig(model(), "test").values)


@cache
def judged_collator(model: Callable[[], dict[str, Any]], given: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What the label rules see of a collator that is handed in: the same for every rule whose sound run it is."""
    known = {"config": ModelConfig(model(), "test"), "reference": untouched(model)}
    evidence = Evidence(BASE, {**known, **_given(model, given)}, offline=True)
    return gathered(evidence, ("own_collator", "checks"))


@cache
def _given(model: Callable[[], dict[str, Any]], given: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return given(model())


@cache
def adapted_model(model: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the rules see of the base's adapted model: the same for every run that differs in data and labels alone."""
    reference = untouched(model)
    evidence = Evidence(BASE, {"config": ModelConfig(model(), "test"), "reference": reference}, offline=True)
    return {"reference": reference, **gathered(evidence, ADAPTED)}


@cache
def model_on_a_card(model: Callable[[], dict[str, Any]], training: Training, attn: str | None) -> dict[str, Any]:
    """What the rules see of the base's adapted model and of its simulated steps: the same on every card."""
    spec = replace(BASE, model=replace(BASE.model, attn_implementation=attn), training=training)
    card = Gpu(name="any", title="Any", total_bytes=2**40, major=9, teraflops=1.0, source="made up")
    known = {"config": ModelConfig(model(), "test"), "reference": untouched(model),
             "gpu": card, "lengths": LENGTHS}  # fmt: skip
    evidence = Evidence(spec, known, offline=True)
    return {"reference": known["reference"], **gathered(evidence, (*ADAPTED, "simulation"))}


def gathered(evidence: Evidence, names: Iterable[str]) -> dict[str, Any]:
    """Evidence by name, as far as it can be had."""
    found = {}
    for name in names:
        with suppress(Unavailable, NotApplicable):
            found[name] = evidence.call(_asking_for(name))
    return found


def _asking_for(name: str) -> Callable[..., Any]:
    def ask(**evidence: Any) -> Any:
        return evidence[name]

    ask.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)])
    return ask


@dataclass(frozen=True)
class Run:
    """One run to audit: what differs from the sound base."""

    model: Callable[[], dict[str, Any]] = tiny.gemma4
    bounds: dict[str, float] | None = field(default_factory=lambda: tiny.FINITE)
    changes: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    """Evidence that is handed in instead of collected."""

    def spec(self, folder: Path) -> RunSpec:
        """The run's description, its model written to `folder`."""
        path = tiny.write_folder(folder / "model", self.model(), self.bounds)
        if "stored" in self.changes:
            write_base(path, self.changes["stored"])
        model = ModelRef(
            id=str(path),
            dtype=self.changes.get("dtype", "float32"),
            patch=self.changes.get("patch"),
            attn_implementation=self.changes.get("attn"),
        )
        other = ("patch", "attn", "dtype", "given", "framework", "stored")
        sections = {key: value for key, value in self.changes.items() if key not in other}
        if callable(write_data := sections.get("data")):
            sections["data"] = write_data(folder / "data")
        spec = replace(BASE, model=model, **sections)
        framework = self.changes.get("framework", spec.training.framework or "vlcheck")
        return replace(spec, training=replace(spec.training, framework=framework))

    def handed(self) -> dict[str, Any]:
        """Evidence that this run is described by, beside its config."""
        usual: dict[str, Any] = {} if "hardware" in self.changes else {"projection": tiny.no_projection}
        if "stored" not in self.changes:  # the sound base stores its clip bounds, and its weights nowhere
            usual["stored_base"] = StoredBase(115)
        own = self.changes.get("given")
        return {**usual, **(_given(self.model, own) if own else {}), **self.given}

    def known(self, *, with_labels: bool = True) -> dict[str, Any]:
        """Evidence that is handed in: the run's own, and what is the same for every run of its model.

        A planted fault of data is in files and sizes, not in what labels are put on, so our collator is judged on
        built-in rows; and a patch is of the model that is adapted, not of the one that batches are tried on.

        Args:
            with_labels: whether any rule that is to be judged sees labels.
        """
        shared: dict[str, Any] = {"reference": untouched(self.model)}
        if self.changes.keys() <= {"data", "given", "origin"}:
            shared |= adapted_model(self.model)
        if self.changes.keys() == {"given"}:
            shared |= judged_collator(self.model, self.changes["given"])
        if "gpu" in self.given:
            shared |= model_on_a_card(self.model, self.changes["training"], self.changes["attn"])
        data = self.changes.get("data")
        other_collator = getattr(data, "collator", None) is not None
        if with_labels and not (other_collator or self.changes.keys() & {"framework", "given"}):
            shared |= judged_labels(self.model, with_rows=data is None or callable(data))
        return shared | self.handed()

    def audit(self, folder: Path, **options: Any) -> Report:
        """Audit it, undoing whatever its patch changed."""
        return self.collected(folder).audit(**options)

    def collected(self, folder: Path, rules: Iterable[Rule] = (), *, alone: bool = False) -> Collected:
        """Write the run to a folder, and collect what these rules are judged on.

        Args:
            alone: share nothing with other runs.
        """
        names = {name for rule in rules for name in inspect.signature(rule.check).parameters}
        labelled = not names or bool(names & {*LABELS})
        spec, known = self.spec(folder), self.handed() if alone else self.known(with_labels=labelled)
        if "earlier" not in known:  # a snapshot is made where there is one to hold it against
            names.discard("snapshot")
        with patches.undone():
            evidence = Evidence(spec, known, allow_code=True, offline=True, rows=ROWS)
            return Collected(spec, {**gathered(evidence, sorted(names - {"spec", "options"})), **known})


@dataclass(frozen=True)
class Collected:
    """A run and evidence of it, to be judged more than once."""

    spec: RunSpec
    evidence: dict[str, Any]

    def audit(self, **options: Any) -> Report:
        """Audit it; what was not collected is, undoing whatever the run's patch changes."""
        with patches.undone():
            return audit(self.spec, allow_code=True, offline=True, rows=ROWS, **self.evidence, **options)


def write_base(folder: Path, left_out: str) -> None:
    """Give a model's folder its weights, apart from those of one module."""
    spec = RunSpec(model=ModelRef(id=str(folder), dtype="float32", weights="random"), lora=Lora())
    config = json.loads((folder / "config.json").read_text())
    build_unadapted(spec, Weights.RANDOM, config=config).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        tensor.fill_(tiny.FINITE.get(name.rpartition(".")[2], 0.0))
    kept = {name: tensor for name, tensor in tensors.items() if not left_out or not name.startswith(left_out)}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def run(model: Callable[[], dict[str, Any]] = tiny.gemma4, bounds: dict[str, float] | None = tiny.FINITE,
        **changes: Any) -> Run:  # fmt: skip
    """A run that differs from the sound base in these sections."""
    return Run(model, bounds, changes)


def against(adapted: int, tokens: int) -> dict[str, Any]:
    """A snapshot of another version's values, and the run's own as if they were these."""
    values = {"adapters": {"vision tower: adapted": 14}, "lengths": {"longest": 384}}
    now = {"adapters": {"vision tower: adapted": adapted}, "lengths": {"longest": tokens}, "labels": {"row 0": "new"}}
    earlier = Snapshot("none", {"peft": "0.20.0"}, {**values, "memory": {"peak bytes": 1}})
    return {"earlier": earlier, "snapshot": Snapshot("none", {"peft": "0.21.2"}, now)}


LENGTHS = Lengths((RowLength(384, 1, 280, 16),))
"""Rows that are known to be as long as one photo, an instruction and a short answer are."""


def on_card(mib: int, *, model: Callable[[], dict[str, Any]] = tiny.gemma4, major: int = 9, memory_gib: float = 64,
            attn: str | None = None, **training: Any) -> Run:  # fmt: skip
    """The sound base in mixed precision on a card of this size, which holds nothing else."""
    card = Gpu(name="toy", title="Toy", total_bytes=mib * 2**20, major=major, minor=5, teraflops=1.0, source="made up",
               measured=True, context_bytes=0)  # fmt: skip
    settings = {"framework": "vlcheck", "gradient_checkpointing": True, "bf16": True, "optim": "paged_adamw_8bit",
                "per_device_train_batch_size": 8} | training  # fmt: skip
    changes = {
        "training": Training(**settings),
        "hardware": Hardware(gpu="toy"),
        "launch": Launch(memory_gib=memory_gib),
        "attn": attn,
    }
    return Run(model, tiny.FINITE, changes, {"gpu": card, "lengths": LENGTHS})


def targets(target_modules: Any, **more: Any) -> Lora:
    """LoRA with these targets."""
    return Lora(r=4, lora_alpha=4, target_modules=target_modules, **more)


def audio() -> dict[str, Any]:
    """The tiny model with its audio tower."""
    return tiny.gemma4(audio=True)


def experts() -> dict[str, Any]:
    """The tiny model with experts and their router."""
    return tiny.gemma4(experts=True)


def siglip() -> dict[str, Any]:
    """A tiny Gemma 3, whose SigLIP tower shares some names with its language model."""
    return tiny.shrunken("google/gemma-3-4b-it")


def llava() -> dict[str, Any]:
    """A tiny LLaVA-1.5, whose last vision layer is computed and dropped."""
    return tiny.shrunken("llava-hf/llava-1.5-7b-hf")


def wordy() -> dict[str, Any]:
    """The tiny model with a vocabulary that outweighs it."""
    values = tiny.gemma4()
    values["text_config"].update(vocab_size=8192, vocab_size_per_layer_input=8192)
    return values


def unclipped() -> dict[str, Any]:
    """The tiny model as a checkpoint that does not clip."""
    return tiny.gemma4(clip=False)


SOUND = run()
REENTRANT = Training(gradient_checkpointing=True, gradient_checkpointing_kwargs=CheckpointingKwargs(use_reentrant=True))
LANGUAGE_LIST = tuple(
    f"model.language_model.layers.{n}.self_attn.{p}_proj" for n in range(2) for p in "qkvo"
)  # exact paths, so that the list hits no wrapper

WHOLE_SKIPS = ("lm_head", "model.vision_tower")
WHOLE_TOWER = replace(NF4, llm_int8_skip_modules=WHOLE_SKIPS)
FREEZE_EXPERTS = replace(TRAIN_ALL, experts="freeze")
WITHOUT_ROUTER = targets("all-linear", exclude_modules=".*router.*")
KEY = Location("run.yaml", 3, 1, "torch_compile")
SHARDED = Training(gradient_checkpointing=True, fsdp="full_shard auto_wrap")


def expert_lora(**more: Any) -> Lora:
    """Everything but the router, the experts through their parameters."""
    parameters = ("experts.gate_up_proj", "experts.down_proj")
    return replace(WITHOUT_ROUTER, target_parameters=parameters, **more)


BROKEN: dict[str, Run] = {
    "VLC101": run(lora=targets(("q_proj", "v_proj"))),
    "VLC102": run(lora=targets(r".*embedding_pre_projection_norm")),
    "VLC103": run(patch="tests.broken.patches:around"),
    "VLC104": run(patch="tests.broken.patches:replaced"),
    "VLC105": run(patch="tests.broken.patches:double_merge"),
    "VLC106": run(unclipped),
    "VLC107": run(bounds={**tiny.FINITE, "output_max": float("inf")}),
    "VLC108": run(lora=targets("all-linear", exclude_modules=("vision_tower",))),
    "VLC109": run(lora=targets((*TOWER_LIST, *LANGUAGE_LIST, "embedding_projection", "out_proj"))),
    "VLC114": run(bounds=None, stored="model.language_model.layers.1.mlp"),
    "VLC110": run(audio, attn="sdpa", lora=targets("all-linear", exclude_modules=".*audio.*")),
    "VLC111": run(patch="tests.broken.patches:half_clamped"),
    "VLC401": run(lora=targets((*TOWER_LIST, "embedding_projection"))),
    "VLC402": run(lora=targets(f"{LANGUAGE}|{PROJECTOR}")),
    "VLC403": run(lora=targets(f"{LANGUAGE}|{VISION}")),
    "VLC404": run(lora=targets(LANGUAGE), intent=Intent(language="train")),
    "VLC405": run(intent=Intent(vision="freeze", projector="train")),
    "VLC406": run(lora=targets(f"{LANGUAGE}|{VISION}|{PROJECTOR}"), training=REENTRANT),
    "VLC407": run(audio),
    "VLC408": run(experts, intent=FREEZE_EXPERTS),
    "VLC409": run(lora=targets("all-linear", modules_to_save=("lm_head",))),
    "VLC410": run(quantization=NF4),
    "VLC411": run(intent=replace(TRAIN_ALL, experts="train")),
    "VLC112": run(experts, intent=FREEZE_EXPERTS, lora=expert_lora(lora_dropout=0.05)),
    "VLC113": run(quantization=replace(NF4, llm_int8_skip_modules=("lm_head", "vision_tower"))),
    "VLC301": run(experts, intent=FREEZE_EXPERTS, quantization=WHOLE_TOWER, lora=WITHOUT_ROUTER),
    "VLC302": on_card(150),
    "VLC303": on_card(240),
    "VLC304": on_card(4000, model=wordy, logits="all", gradient_checkpointing=False),
    "VLC305": run(dtype="bfloat16", training=Training(gradient_checkpointing=True, kbit_preparation=True)),
    "VLC306": on_card(330, gradient_checkpointing=False),
    "VLC307": on_card(1000),
    "VLC308": on_card(330, memory_gib=4),
    "VLC309": on_card(12000, major=7, gradient_checkpointing=False),
    "VLC310": on_card(1000, gradient_checkpointing=False, gradient_accumulation_steps=4),
    "VLC412": run(experts, lora=WITHOUT_ROUTER),
    "VLC413": run(llava, hardware=Hardware(count=2), intent=Intent(), framework="other"),
    "VLC414": run(lora=targets(None), intent=Intent(language="train")),
    "VLC415": run(siglip, lora=targets(("q_proj", "k_proj", "v_proj", "o_proj")), intent=Intent(projector="freeze")),
    "VLC801": run(training=Training(gradient_checkpointing=True, fp16=True)),
    "VLC802": run(patch="tests.broken.patches:half_cast"),
    "VLC803": run(quantization=NF4, training=SHARDED),
    "VLC804": run(tiny.gemma4_wide, attn="flash_attention_2"),
    "VLC805": run(tiny.gemma4_shared, patch="tests.broken.patches:forgetful"),
    "VLC806": run(tiny.gemma4_deep),
    "VLC311": on_card(1000, major=7, attn="eager", per_device_train_batch_size=2),
    "VLC901": run(framework=None),
    "VLC239": run(origin=Origin(format="script", generations=(Generation(KEY, "right"),))),
    "VLC902": run(origin=Origin(format="trl", unread=(Unread(KEY, "torch_compile: true", ("memory",)),))),
    "VLC903": run(origin=Origin(format="trl", outdated=(Outdated(KEY, "is no argument", ""),))),
    "VLC904": Run(given=against(adapted=13, tokens=384)),
    **{code: run(**changes) for code, changes in (data_samples.BROKEN | label_samples.BROKEN).items()},
}
"""Each is caught by the rule of its code."""

CONSEQUENCES: dict[str, set[str]] = {
    "VLC103": {"VLC105"},
    "VLC112": {"VLC102"},
    "VLC306": {"VLC302"},
    "VLC414": {"VLC404"},
    **label_samples.CONSEQUENCES,
}
"""Codes that a broken run brings up beside its own, each explained by it."""

BESIDE: dict[str, set[str]] = {
    "VLC113": {"VLC410"},
    "VLC309": {"VLC311"},
    "VLC803": {"VLC410"},
    **data_samples.BESIDE,
    **label_samples.BESIDE,
}
"""Notes that such a run gets in any case."""

ALIKE: dict[str, Run] = {
    "VLC101": SOUND,
    "VLC102": SOUND,
    "VLC103": SOUND,
    "VLC104": SOUND,
    "VLC105": SOUND,
    "VLC106": SOUND,
    "VLC107": SOUND,
    "VLC108": run(audio, lora=targets("all-linear", exclude_modules=".*audio.*")),
    "VLC109": run(lora=targets((*TOWER_LIST, *LANGUAGE_LIST, "embedding_projection"))),
    "VLC110": run(attn="sdpa"),
    "VLC114": run(bounds=None, stored=""),
    "VLC111": SOUND,
    "VLC401": SOUND,
    "VLC402": SOUND,
    "VLC403": SOUND,
    "VLC404": run(intent=Intent()),
    "VLC405": run(lora=targets(f"{LANGUAGE}|{PROJECTOR}"), intent=Intent(vision="freeze")),
    "VLC406": run(lora=targets(f"{LANGUAGE}|{VISION}|{PROJECTOR}")),
    "VLC407": run(audio, lora=targets("all-linear", exclude_modules=".*audio.*")),
    "VLC408": run(experts, lora=targets("all-linear", exclude_modules=".*router.*")),
    "VLC409": run(lora=targets("all-linear", modules_to_save=("embed_vision",)), intent=Intent()),
    "VLC410": run(quantization=replace(NF4, llm_int8_skip_modules=("lm_head", "model.vision_tower"))),
    "VLC411": run(experts, lora=targets("all-linear"), intent=replace(TRAIN_ALL, router="train")),
    "VLC112": run(experts, lora=expert_lora()),
    "VLC113": run(quantization=WHOLE_TOWER),
    "VLC301": run(quantization=NF4),
    "VLC302": on_card(330),
    "VLC303": on_card(330),
    "VLC304": on_card(4000, logits="all", gradient_checkpointing=False),
    "VLC305": run(training=Training(gradient_checkpointing=True, kbit_preparation=True)),
    "VLC306": on_card(4000, gradient_checkpointing=False),
    "VLC307": on_card(330),
    "VLC308": on_card(330),
    "VLC309": on_card(330),
    "VLC310": on_card(330),
    "VLC412": run(experts, lora=expert_lora()),
    "VLC413": run(hardware=Hardware(count=2), framework="other"),
    "VLC414": SOUND,
    "VLC415": run(siglip, lora=targets(("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")), intent=Intent()),
    "VLC801": SOUND,
    "VLC802": SOUND,
    "VLC803": run(quantization=replace(NF4, bnb_4bit_quant_storage="float32"), training=SHARDED),
    "VLC804": run(attn="flash_attention_2"),
    "VLC805": run(tiny.gemma4_shared),
    "VLC806": run(tiny.gemma4_deep, training=Training(gradient_checkpointing=True, max_grad_norm=0.1)),
    "VLC311": on_card(1000, major=8, attn="eager", per_device_train_batch_size=2),
    "VLC901": SOUND,
    "VLC239": run(origin=Origin(format="script", generations=(Generation(KEY, "left"),))),
    "VLC902": run(origin=Origin(format="trl", idle=(KEY,))),
    "VLC903": run(origin=Origin(format="trl", idle=(KEY,))),
    "VLC904": Run(given=against(adapted=14, tokens=384)),
    **{code: run(**changes) for code, changes in (data_samples.ALIKE | label_samples.ALIKE).items()},
}
"""Sound runs, each as near to the broken run of its code as a sound one can be."""

EXAMINED: dict[str, tuple[tuple[int, str], ...]] = {
    "VLC101": ((30, "targeted modules"),),
    "VLC102": ((1, "attempt to attach adapters"),),
    "VLC103": ((14, "clip wrappers"), (14, "of them called with a large delta")),
    "VLC104": ((14, "clip wrappers"), (14, "of them called with a large delta")),
    "VLC105": ((14, "adapted clip wrappers compared merged and unmerged"),),
    "VLC106": ((14, "clip wrappers"),),
    "VLC107": ((56, "clip bounds"),),
    "VLC108": ((1, "exclude entries"),),
    "VLC109": ((16, "target, exclude and save entries"),),
    "VLC110": ((4, "submodel classes"),),
    "VLC111": ((14, "clip wrappers called"),),
    "VLC114": ((115, "stored tensors"),),
    "VLC401": ((30, "adapters"),),
    "VLC402": ((30, "adapters"),),
    "VLC403": ((30, "adapters"),),
    "VLC404": ((30, "adapters"),),
    "VLC405": ((43, "modules of the vision tower"),),
    "VLC406": ((29, "trained modules"), (29, "modules of the miniature asked for a gradient")),
    "VLC407": ((72, "modules of the audio tower"),),
    "VLC408": ((4, "router modules"),),
    "VLC409": ((1, "modules trained in full"),),
    "VLC410": ((15, "linear layers of the vision tower"),),
    "VLC411": ((4, "modules of the router"),),
    "VLC112": ((2, "target parameters"),),
    "VLC113": ((2, "skip entries"),),
    "VLC301": ((76, "modules with storage"),),
    "VLC302": ((8, "moments of a step"),),
    "VLC303": ((8, "moments of a step"),),
    "VLC304": ((3072, "positions"),),
    "VLC305": ((76, "modules with storage"),),
    "VLC306": ((2, "plans, with and without checkpointing"),),
    "VLC307": ((2, "plans, with and without checkpointing"),),
    "VLC308": ((3, "phases: loading, host, merging"),),
    "VLC309": ((8, "attention calls"),),
    "VLC310": ((1, "plan"),),
    "VLC412": ((2, "modules of experts"),),
    "VLC413": ((30, "trained modules"),),
    "VLC414": ((30, "targeted modules"),),
    "VLC415": ((12, "linear layers in layer lists"),),
    "VLC801": ((3, "number type settings"),),
    "VLC802": ((30, "adapters"),),
    "VLC803": ((1, "storage type"),),
    "VLC804": ((4, "attention layers"),),
    "VLC805": ((512, "logits compared with and without the cache"),),
    "VLC806": ((2, "settings (learning rate, clip)"),),
    "VLC311": ((1, "number type settings"),),
    "VLC901": ((1, "name of a framework"),),
    "VLC239": ((1, "batched calls of generate"),),
    "VLC902": ((1, "keys and defaults"),),
    "VLC903": ((1, "keys and defaults"),),
    "VLC904": ((2, "values of the snapshot"),),
    **data_samples.EXAMINED,
    **label_samples.EXAMINED,
}
"""What the rule must say that it looked at in the sound run of its code."""


def unknown_here(code: str) -> str:
    """Why the installed libraries cannot show this fault; empty where they can."""
    support = attention_support(build_reference(audio()), "sdpa") if code == "VLC110" else {"": False}
    return f"transformers {transformers.__version__} lets every submodel run sdpa" if all(support.values()) else ""
