"""Axolotl."""

from __future__ import annotations

from vlcheck.config.frameworks.row import Fact, Framework, packed
from vlcheck.config.frameworks.transformers import ARGUMENTS, HEAD

_AXOLOTL = "axolotl/utils/schemas/training.py"

AXOLOTL = Framework(
    name="axolotl",
    version="0.19",
    package="axolotl",
    collator=Fact("axolotl.utils.collators.mm_chat:MultiModalChatDataCollator", "axolotl/utils/collators/mm_chat.py"),
    supervises=Fact("answers", "axolotl/processing_strategies.py:338-390, train_on_inputs and train_on_eos unset"),
    too_long=Fact("kept", "axolotl/utils/collators/mm_chat.py: sequence_len is not applied to rows with images"),
    columns=Fact(("messages", "conversations", "image", "images"), "axolotl/processing_strategies.py:176-260"),
    freezes=Fact((), "axolotl/utils/schemas/config.py:649"),
    defaults={
        **{path: fact for path, fact in ARGUMENTS.items() if path != "training.gradient_checkpointing_kwargs"},
        **HEAD,
        **packed(
            "axolotl/loaders/model.py:801-810",
            bnb_4bit_compute_dtype=Fact("bfloat16", "axolotl/loaders/model.py:806"),
            bnb_4bit_quant_storage=Fact("bfloat16", "axolotl/loaders/model.py:809"),
        ),
        "model.dtype": Fact("bfloat16", "axolotl/utils/config/__init__.py:198, where the card has bf16"),
        "training.bf16": Fact(True, "axolotl/utils/schemas/config.py:561, where the card has bf16"),
        "training.per_device_train_batch_size": Fact(1, f"{_AXOLOTL}:77"),
        "training.gradient_accumulation_steps": Fact(1, f"{_AXOLOTL}:71"),
        "training.per_device_eval_batch_size": Fact(
            lambda spec: spec.training.per_device_train_batch_size, "axolotl/utils/config/__init__.py:215"
        ),
        "training.warmup_steps": Fact(0.03, "axolotl/core/builders/base.py:248; at most 100 steps"),
        "training.save_strategy": Fact("epoch", "axolotl/core/builders/base.py:517"),
        "training.save_total_limit": Fact(4, "axolotl/core/builders/base.py:520"),
        "training.optim": Fact("adamw_torch_fused", f"{_AXOLOTL}:122"),
        "training.lr_scheduler_type": Fact("cosine", f"{_AXOLOTL}:144"),
        "training.num_train_epochs": Fact(1.0, f"{_AXOLOTL}:267"),
        "training.gradient_checkpointing": Fact(False, "axolotl/utils/schemas/config.py:606"),
    },
    depends={
        "training.gradient_checkpointing_kwargs": Fact(
            "{use_reentrant: true}, and false for Gemma 4", "axolotl/utils/config/__init__.py:401,408"
        )
    },
)
