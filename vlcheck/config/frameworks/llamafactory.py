"""LLaMA-Factory."""

from __future__ import annotations

from vlcheck.config.frameworks.row import Fact, Framework, packed, reentrant
from vlcheck.config.frameworks.transformers import ARGUMENTS, HEAD

_LLAMA = "llamafactory/hparams"

LLAMA_FACTORY = Framework(
    name="llamafactory",
    version="0.9.5",
    package="llamafactory",
    collator=Fact(
        "llamafactory.data.collator:SFTDataCollatorWith4DAttentionMask", "llamafactory/data/processor/supervised.py"
    ),
    supervises=Fact("answers", "llamafactory/data/processor/supervised.py:80-97, hparams/data_args.py:50"),
    too_long=Fact("cut", "llamafactory/data/processor/supervised.py:71-76"),
    columns=Fact(("conversations", "images"), "llamafactory/data/parser.py:43,56"),
    freezes=Fact(
        ("vision", "projector", "audio"),
        f"{_LLAMA}/finetuning_args.py:527,531, model/model_utils/misc.py:38, visual.py:163-246",
    ),
    freezes_named=True,
    spares=("projector",),
    wakes_inputs=Fact(True, "llamafactory/model/model_utils/checkpointing.py:88-96"),
    defaults={
        **ARGUMENTS,
        **HEAD,
        **packed(
            f"{_LLAMA}/model_args.py:287,291",
            bnb_4bit_compute_dtype=Fact(lambda spec: spec.model.dtype, "llamafactory/model/patcher.py:325"),
            bnb_4bit_quant_storage=Fact(
                lambda spec: spec.model.dtype, "llamafactory/model/model_utils/quantization.py:178"
            ),
        ),
        "lora.r": Fact(8, f"{_LLAMA}/finetuning_args.py:77"),
        "lora.target_modules": Fact("all-linear", f"{_LLAMA}/finetuning_args.py:81"),
        "lora.lora_alpha": Fact(lambda spec: 2.0 * spec.lora.r, f"{_LLAMA}/finetuning_args.py:568"),
        "lora.lora_dropout": Fact(0.0, f"{_LLAMA}/finetuning_args.py:73"),
        "data.max_length": Fact(2048, f"{_LLAMA}/data_args.py:46"),
        "training.gradient_checkpointing": Fact(True, f"{_LLAMA}/model_args.py:116"),
        "training.gradient_checkpointing_kwargs": Fact(reentrant(True), f"{_LLAMA}/model_args.py:120"),
        "training.remove_unused_columns": Fact(False, f"{_LLAMA}/parser.py:459"),
    },
)
