"""TRL's `SFTTrainer`."""

from __future__ import annotations

from vlcheck.config.frameworks.row import Fact, Framework, reentrant
from vlcheck.config.frameworks.transformers import ARGUMENTS, HEAD

_MODEL = "trl/trainer/model_config.py"
_SFT = "trl/trainer/sft_config.py"
_EXAMPLE = "https://github.com/huggingface/trl/blob/main/examples/scripts/sft_vlm.py"

TRL = Framework(
    name="trl",
    version="1.16",
    package="trl",
    collator=Fact("trl.trainer.sft_trainer:DataCollatorForVisionLanguageModeling", "trl/trainer/sft_trainer.py:982"),
    supervises=Fact("all", "trl/trainer/sft_trainer.py:412, sft_config.py:273"),
    answers_alone=Fact(
        "rows of prompt and completion, with completion_only_loss; or rows of messages with assistant_only_loss, for "
        "which trl must have a training twin of the model's chat template",
        "trl/trainer/sft_trainer.py:500,941, with transformers 5.18 for the latter, :787; chat_template_utils.py:1157",
    ),
    example=_EXAMPLE,
    too_long=Fact("cut", "trl/trainer/sft_trainer.py:381; a cut image stops the run, :1631"),
    columns=Fact(("messages", "prompt", "completion", "image", "images"), "trl/trainer/sft_trainer.py:1494"),
    freezes=Fact((), "peft decides"),
    defaults={
        **ARGUMENTS,
        "data.max_length": Fact(1024, f"{_SFT}:202"),
        "training.learning_rate": Fact(2e-5, f"{_SFT}:140"),
        "training.bf16": Fact(True, "trl/trainer/base_config.py:108"),
        "training.gradient_checkpointing": Fact(True, "trl/trainer/base_config.py:62"),
        "training.logging_steps": Fact(10, "trl/trainer/base_config.py:55"),
        "training.logits": Fact("chunked", "trl/trainer/sft_trainer.py:1144,1611, trl/kernels/chunked_logprob.py:31"),
    },
    file_defaults={
        "model.dtype": Fact("float32", f"{_MODEL}:89"),
        "lora.r": Fact(16, f"{_MODEL}:107"),
        "lora.lora_alpha": Fact(32.0, f"{_MODEL}:111"),
        "lora.lora_dropout": Fact(0.05, f"{_MODEL}:115"),
        "quantization.bnb_4bit_quant_type": Fact("nf4", f"{_MODEL}:160"),
        "quantization.bnb_4bit_compute_dtype": Fact(lambda spec: spec.model.dtype, "trl/trainer/utils.py:265"),
    },
    depends={
        "model.dtype": Fact(
            "float32 where the model is given by name, as `trl sft` does, and the checkpoint's own where a script "
            "loads it",
            "trl/trainer/utils.py:1332, trl/trainer/model_config.py:89, trl/trainer/sft_trainer.py:544",
        )
    },
)

_OLD = "trl-0.24.0: trl/trainer"
_OLD_TRAINER = "transformers-4.57.6: transformers"
TRL_0_24 = Framework(
    name="trl",
    version="0.24",
    package="trl",
    collator=Fact("trl.trainer.sft_trainer:DataCollatorForVisionLanguageModeling", f"{_OLD}/sft_trainer.py:766"),
    supervises=Fact("all", f"{_OLD}/sft_trainer.py:378, prompt and completion apart, :451"),
    answers_alone=Fact(
        "rows of prompt and completion, with completion_only_loss",
        f"{_OLD}/sft_trainer.py:451; assistant_only_loss is refused for images, :661",
    ),
    example=_EXAMPLE,
    too_long=Fact("cut", f"{_OLD}/sft_trainer.py:374"),
    columns=Fact(("messages", "prompt", "completion", "images"), f"{_OLD}/sft_trainer.py:1076"),
    freezes=Fact((), "peft decides"),
    defaults={
        **ARGUMENTS,
        **HEAD,
        "data.max_length": Fact(1024, f"{_OLD}/sft_config.py:182"),
        "training.learning_rate": Fact(2e-5, f"{_OLD}/sft_config.py:105"),
        "training.bf16": Fact(True, f"{_OLD}/sft_config.py:122"),
        "training.gradient_checkpointing": Fact(True, f"{_OLD}/sft_config.py:116"),
        "training.gradient_checkpointing_kwargs": Fact(reentrant(True), f"{_OLD_TRAINER}/modeling_utils.py:3692"),
        "training.logging_steps": Fact(10, f"{_OLD}/sft_config.py:109"),
    },
    file_defaults={
        "lora.r": Fact(16, f"{_OLD}/model_config.py:119"),
        "lora.lora_alpha": Fact(32.0, f"{_OLD}/model_config.py:123"),
        "lora.lora_dropout": Fact(0.05, f"{_OLD}/model_config.py:127"),
        "quantization.bnb_4bit_quant_type": Fact("nf4", f"{_OLD}/model_config.py:172"),
        "quantization.bnb_4bit_compute_dtype": Fact(lambda spec: spec.model.dtype, f"{_OLD}/utils.py:621"),
        "quantization.bnb_4bit_quant_storage": Fact(lambda spec: spec.model.dtype, f"{_OLD}/utils.py:624"),
    },
    depends={
        "model.dtype": Fact(
            "float32 under transformers 4, and the checkpoint's own under 5",
            f"{_OLD}/model_config.py:93, scripts/sft.py",
        )
    },
)
