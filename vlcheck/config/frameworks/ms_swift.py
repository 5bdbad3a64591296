"""ms-swift."""

from __future__ import annotations

import math

from vlcheck.config.frameworks.row import Fact, Framework, packed, reentrant
from vlcheck.config.frameworks.transformers import ARGUMENTS

_SWIFT = "swift/trainers/arguments.py"

MS_SWIFT = Framework(
    name="ms-swift",
    version="4.6",
    package="ms-swift",
    collator=Fact("swift.template.base:Template.data_collator", "swift/template/base.py"),
    supervises=Fact("answers", "swift/template/base.py:1214-1255, loss_scale/base.py: default"),
    too_long=Fact("dropped", "swift/arguments/base_args/template_args.py:132, the model's own limit"),
    columns=Fact(("messages", "query", "response", "image", "images"), "swift/dataset/preprocessor/core.py:24,68"),
    freezes=Fact(
        ("vision", "projector", "audio"),
        "swift/arguments/tuner_args.py:123-124, pipelines/train/tuner.py:99, model/model_arch.py",
    ),
    wakes_inputs=Fact(True, "swift/trainers/mixin.py:980-996"),
    defaults={
        **ARGUMENTS,
        **packed(
            "swift/arguments/base_args/quant_args.py",
            bnb_4bit_compute_dtype=Fact(lambda spec: spec.model.dtype, "swift/arguments/base_args/quant_args.py"),
        ),
        "lora.r": Fact(8, "swift/arguments/tuner_args.py:133"),
        "lora.lora_alpha": Fact(32.0, "swift/arguments/tuner_args.py:134"),
        "lora.lora_dropout": Fact(0.05, "swift/arguments/tuner_args.py:135"),
        "lora.target_modules": Fact("all-linear", "swift/arguments/tuner_args.py:126"),
        "training.bf16": Fact(
            lambda spec: spec.model.dtype == "bfloat16", "swift/arguments/base_args/model_args.py:136"
        ),
        "training.per_device_train_batch_size": Fact(1, f"{_SWIFT}:130"),
        "training.per_device_eval_batch_size": Fact(1, f"{_SWIFT}:131"),
        "training.dataloader_num_workers": Fact(1, f"{_SWIFT}:310"),
        "training.gradient_accumulation_steps": Fact(
            lambda spec: max(1, math.ceil(16 / spec.training.per_device_train_batch_size / spec.hardware.count)),
            f"{_SWIFT}:291",
        ),
        "training.gradient_checkpointing": Fact(True, f"{_SWIFT}:135"),
        "training.gradient_checkpointing_kwargs": Fact(
            lambda spec: reentrant(spec.hardware.count == 1 or bool(spec.training.fsdp)),
            "swift/trainers/mixin.py:949-953",
        ),
        "training.learning_rate": Fact(1e-4, "swift/arguments/sft_args.py:249"),
        "training.weight_decay": Fact(0.1, f"{_SWIFT}:146"),
        "training.adam_beta2": Fact(0.95, f"{_SWIFT}:147"),
        "training.lr_scheduler_type": Fact("cosine", f"{_SWIFT}:148"),
        "training.logging_steps": Fact(5, f"{_SWIFT}:139"),
        "training.logits": Fact("supervised", "swift/trainers/seq2seq_trainer.py:110, mixin.py:213-225"),
        "training.remove_unused_columns": Fact(False, "swift/arguments/sft_args.py:231"),
    },
)
