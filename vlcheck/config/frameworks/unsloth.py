"""Unsloth."""

from __future__ import annotations

from vlcheck.config.frameworks.row import Fact, Framework, packed, reentrant
from vlcheck.config.frameworks.transformers import ARGUMENTS
from vlcheck.spec import Quantization

_UNSLOTH = "unsloth/models/rl.py"
_LAYERS = (
    r".*(vision|image|visual|patch|language|text).*(attn|attention|mixer|mlp|feed_forward|ffn|dense).*\.[^.\d][^.]*"
)
"""Attention and MLP of parts with such names. A leaf that is called by a number occurs once: it is taken for a head."""
_EMBEDDERS = (
    r".*(embed_vision\.embedding_projection|vision_embedder\.patch_dense|vision_tower\.patch_embedder\.input_proj)"
)
_HEARING = r".*(audio_tower\..*|embed_audio\.embedding_projection)"
_PICKS = "unsloth_zoo-2026.10.9: unsloth_zoo/peft_utils.py:156-330, unsloth/models/vision.py"
_ZOO = "unsloth_zoo-2026.10.9: unsloth_zoo/vision_utils.py"

UNSLOTH = Framework(
    name="unsloth",
    version="2026.10.9",
    package="unsloth",
    collator=Fact("unsloth_zoo.vision_utils:UnslothVisionDataCollator", f"{_ZOO}:1807"),
    supervises=Fact("all but images", f"{_ZOO}:2107-2114,1383-1405; train_on_responses_only unset, :1830"),
    answers_alone=Fact(
        "train_on_responses_only=True, instruction_part and response_part of UnslothVisionDataCollator",
        f"{_ZOO}:1830,1958",
    ),
    too_long=Fact("cut", f"{_ZOO}:2077"),
    columns=Fact(("messages", "prompt", "completion", "images"), _ZOO),
    freezes=Fact((), "unsloth/models/vision.py:4917"),
    unset=Fact(f"{_LAYERS}|{_EMBEDDERS}", f"{_PICKS}:5098"),
    all_linear=Fact(f"{_LAYERS}|{_EMBEDDERS}|{_HEARING}", f"{_PICKS}:5010"),
    wakes_inputs=Fact(
        True, "unsloth/models/vision.py:5378, unsloth_zoo/peft_utils.py: requires_grad_for_gradient_checkpointing"
    ),
    defaults={
        **ARGUMENTS,
        "quantization": Fact(
            Quantization(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype="bfloat16",
            ),
            "unsloth/models/loader.py:1245: told nothing, it loads in 4 bits",
        ),
        **packed(
            "unsloth/models/loader.py:2020",
            bnb_4bit_compute_dtype=Fact(lambda spec: spec.model.dtype, "unsloth/models/loader.py:2020"),
        ),
        "lora.r": Fact(16, "unsloth/models/vision.py:4912"),
        "lora.lora_alpha": Fact(16.0, "unsloth/models/vision.py:4914"),
        "lora.lora_dropout": Fact(0.0, "unsloth/models/vision.py:4915"),
        "data.max_length": Fact(2048, f"unsloth/models/loader.py:1243, {_ZOO}:1951"),
        "training.bf16": Fact(lambda spec: spec.model.dtype == "bfloat16", f"{_UNSLOTH}: follows the model's dtype"),
        "training.per_device_train_batch_size": Fact(4, f"{_UNSLOTH}:3313"),
        "training.gradient_accumulation_steps": Fact(2, f"{_UNSLOTH}:3314"),
        "training.weight_decay": Fact(0.001, f"{_UNSLOTH}:3316"),
        "training.seed": Fact(3407, f"{_UNSLOTH}:3317"),
        "training.optim": Fact("adamw_8bit", f"{_UNSLOTH}:3318"),
        "training.learning_rate": Fact(5e-5, f"{_UNSLOTH}:3319"),
        "training.logging_steps": Fact(1, f"{_UNSLOTH}:3323"),
        "training.warmup_steps": Fact(0.1, f"{_UNSLOTH}:3337"),
        "training.gradient_checkpointing": Fact(True, "unsloth/models/loader.py:1256"),
        "training.gradient_checkpointing_kwargs": Fact(
            lambda spec: reentrant(spec.hardware.count == 1 or bool(spec.training.fsdp)),
            f"{_UNSLOTH}:3654-3666, loader_utils.py:335",
        ),
        "training.logits": Fact("fused", f"{_UNSLOTH}:3374, models/_utils.py:6504"),
    },
)
