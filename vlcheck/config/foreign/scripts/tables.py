"""What becomes of the arguments of calls that scripts make: other formats' tables where they have one, and the rest.

Releases that were read: trl 0.12.2, 0.16.1, 0.19.1 and 1.16.0 (trl/trainer/sft_trainer.py), transformers 4.57.6, 5.0.0
and 5.23.0 (trainer.py, modeling_utils.py), peft 0.21.2 (utils/other.py), unsloth 2026.10.9 (models/loader.py,
models/vision.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from vlcheck.config.foreign.adapters import BITSANDBYTES
from vlcheck.config.foreign.huggingface import ADAPTER_KEYS
from vlcheck.config.foreign.keys import Fate, Gone, Idle, To, Together, Unjudged, idle, same, together, unjudged
from vlcheck.config.foreign.transformers import ARGUMENTS
from vlcheck.config.foreign.trl import LOADING, SFT_CONFIG
from vlcheck.finding import Json
from vlcheck.spec import Concern, Framework

SECTIONS = together(
    "from_pretrained processor LoraConfig BitsAndBytesConfig get_peft_model prepare_model_for_kbit_training "
    "gradient_checkpointing_enable load_dataset rows eval_load_dataset data_collator trainer frozen frozen_adapters "
    "thawed adapters other_adapter DataLoader optimizer Accelerator scheduler clip_grad_norm_ epochs autocast "
    "accumulation"
)
"""Keys of the document that a script becomes, beside the arguments themselves: a call each."""

_POINTLESS = (
    "output_dir run_name logging_dir hub_model_id hub_token report_to push_to_hub project dataset_num_proc "
    "dataloader_num_workers seed data_seed logging_steps save_steps save_strategy save_total_limit"
)
HARMLESS = frozenset(_POINTLESS.split())
"""Arguments that may be known only when the script runs, and change nothing that is judged."""

ARGUMENTS_OF: Mapping[Framework, Mapping[str, Fate]] = {
    "trl": SFT_CONFIG,
    "transformers": ARGUMENTS,
    "unsloth": {**SFT_CONFIG, "max_seq_length": To("data.max_length")},  # it adds that field again, models/rl.py
    "other": {},
}
"""By whose loop runs: what its arguments mean."""

MODEL: Mapping[str, Fate] = {
    **LOADING,
    **together("pretrained_model_name_or_path model_name quantization_config"),
    **dict.fromkeys(
        ("load_in_4bit", "load_in_8bit"),
        Gone(
            "transformers",
            "5.0.0",
            "transformers/modeling_utils.py: 4.57.6 has it, 5.0.0 has not",
            "quantization_config=BitsAndBytesConfig(...)",
            Together(),
        ),
    ),
    **together("min_pixels max_pixels"),
    "_attn_implementation": LOADING["attn_implementation"],
    **unjudged("config state_dict max_memory use_flash_attention_2", "memory", "placement"),
    **idle(
        "subfolder force_download use_safetensors variant offload_folder offload_state_dict ignore_mismatched_sizes "
        "output_loading_info use_auth_token torchscript proxies local_rank tp_plan"
    ),
}
UNSLOTH_MODEL: Mapping[str, Fate] = {
    **MODEL,
    "max_seq_length": To("data.max_length"),
    **together("load_in_4bit load_in_8bit load_in_16bit full_finetuning use_gradient_checkpointing"),
    **unjudged("fast_inference load_in_fp8", "memory"),
    **idle("random_state fix_tokenizer return_logits gpu_memory_utilization max_lora_rank float8_kv_cache auto_model"),
}
PROCESSOR: Mapping[str, Fate] = {
    **together("pretrained_model_name_or_path min_pixels max_pixels"),
    "max_soft_tokens": To("data.max_soft_tokens"),
    **unjudged("size image_seq_length do_pan_and_scan crop_size", "memory", "labels"),
    **unjudged("do_image_splitting do_resize", "memory", "labels", harmless=(None, True)),
    **unjudged("chat_template", "labels"),
    "revision": Idle(),
    **idle(
        "trust_remote_code use_fast padding_side token cache_dir model_max_length local_files_only add_eos_token "
        "legacy use_auth_token add_bos_token subfolder backend device"
    ),
}
QUANTIZATION: Mapping[str, Fate] = {
    **BITSANDBYTES,
    **together("load_in_4bit load_in_8bit"),
    **unjudged("llm_int8_enable_fp32_cpu_offload", "memory"),
    **idle("llm_int8_has_fp16_weight quant_method"),
}
ADAPTER: Mapping[str, Fate] = ADAPTER_KEYS
UNSLOTH_ADAPTER: Mapping[str, Fate] = {
    **same(
        "lora",
        "r lora_alpha lora_dropout target_modules modules_to_save bias use_rslora layers_to_transform layers_pattern "
        "target_parameters ensure_weight_tying exclude_modules use_dora",
    ),
    "task_type": To("lora.task_type", otherwise=Idle()),
    **together("finetune_vision_layers finetune_language_layers use_gradient_checkpointing model"),
    **unjudged("finetune_attention_modules finetune_mlp_modules", "placement", "memory", harmless=(None, True)),
    **unjudged("finetune_audio_layers", "placement", "memory"),
    "init_lora_weights": Unjudged(("placement",), (None, True, False, "gaussian", "orthogonal")),
    **unjudged("qat_scheme", "memory"),
    **idle("random_state loftq_config max_seq_length temporary_location"),
}


def _gone(has: str, lacks: str, instead: str, meant: Fate) -> Gone:
    assert isinstance(meant, To | Idle | Unjudged)
    source = f"trl/trainer/sft_trainer.py: {has} has it, {lacks} has not"
    return Gone("trl", lacks, source, instead, meant)


_TRAINER: Mapping[str, Fate] = {
    **together("model args train_dataset eval_dataset data_collator peft_config processing_class quantization_config"),
    **together("tokenizer model_init_kwargs"),
    **unjudged("formatting_func compute_loss_func", "labels", "data"),
    **unjudged("optimizers optimizer_cls_and_kwargs model_init", "memory", harmless=(None, [None, None])),
    **idle("compute_metrics callbacks preprocess_logits_for_metrics"),
}
TRAINER_OF: Mapping[Framework, Mapping[str, Fate]] = {
    "trl": {
        **_TRAINER,
        "tokenizer": _gone("0.12.2", "0.16.1", "processing_class", Idle()),
        "max_seq_length": _gone("0.12.2", "0.16.1", "SFTConfig(max_length=...)", To("data.max_length")),
        "packing": _gone("0.12.2", "0.16.1", "SFTConfig(packing=...)", To("training.packing")),
        **dict.fromkeys(
            ("dataset_text_field", "dataset_kwargs", "dataset_num_proc", "dataset_batch_size", "neftune_noise_alpha"),
            _gone("0.12.2", "0.16.1", "the same argument of SFTConfig", Idle()),
        ),
    },
    "transformers": {
        **_TRAINER,
        "tokenizer": Gone(
            "transformers", "5.0.0", "transformers/trainer.py: 4.57.6 has it, 5.0.0 has not", "processing_class"
        ),
    },
    "unsloth": {
        **_TRAINER,
        "max_seq_length": To("data.max_length"),
        "packing": To("training.packing"),
        **idle("tokenizer dataset_text_field dataset_kwargs dataset_num_proc"),
    },
    "other": {},
}
"""Arguments of the trainer itself."""

COLLATOR: Mapping[str, Fate] = {
    **together("model processor tokenizer train_on_responses_only max_length completion_only_loss assistant_only_loss"),
    **together("max_seq_length"),
    **unjudged("resize force_match formatting_func", "memory", "labels", harmless=(None, True)),
    **unjudged("image_size", "memory", "labels"),
    **unjudged("chat_template", "labels"),
    **idle("instruction_part response_part pad_to_multiple_of dataset_text_field return_tensors ignore_index mlm"),
}
"""Arguments of a framework's own collator for images."""

LOOP: Mapping[str, Mapping[str, Fate]] = {
    "DataLoader": {
        "batch_size": To("training.per_device_train_batch_size"),
        "num_workers": To("training.dataloader_num_workers"),
        **together("collate_fn dataset"),
        **unjudged("sampler batch_sampler", "data", "memory", harmless=(None,)),
        **idle("shuffle pin_memory drop_last prefetch_factor persistent_workers generator worker_init_fn timeout"),
    },
    "optimizer": {
        "lr": To("training.learning_rate"),
        "weight_decay": To("training.weight_decay"),
        "eps": To("training.adam_epsilon"),
        **together("params betas"),
        **idle("fused foreach amsgrad capturable maximize differentiable"),
    },
    "Accelerator": {
        "gradient_accumulation_steps": To("training.gradient_accumulation_steps"),
        **together("mixed_precision"),
        **unjudged("deepspeed_plugin fsdp_plugin dynamo_backend", "memory", harmless=(None,)),
        **idle("log_with project_dir project_config kwargs_handlers split_batches device_placement cpu "
               "step_scheduler_with_optimizer rng_types even_batches dataloader_config"),
    },
    "autocast": {**together("dtype"), **idle("device_type cache_enabled enabled")},
    "scheduler": {
        "num_warmup_steps": To("training.warmup_steps"),
        "name": To("training.lr_scheduler_type", otherwise=Idle()),
        **idle("optimizer num_training_steps num_cycles last_epoch"),
    },
    "clip_grad_norm_": {"max_norm": To("training.max_grad_norm"), **idle("parameters norm_type error_if_nonfinite")},
}  # fmt: skip
"""Arguments of what a loop without a trainer is made of."""

OPTIMIZERS: Mapping[str, Json] = {
    "torch.optim.AdamW": "adamw_torch",
    "torch.optim.Adam": "adamw_torch",
    "torch.optim.SGD": "sgd",
    "bitsandbytes.optim.AdamW8bit": "adamw_8bit",
    "bitsandbytes.optim.Adam8bit": "adamw_8bit",
    "bitsandbytes.optim.PagedAdamW8bit": "paged_adamw_8bit",
    "bitsandbytes.optim.PagedAdamW32bit": "paged_adamw_32bit",
    "bitsandbytes.optim.PagedAdamW": "paged_adamw_32bit",
    "transformers.Adafactor": "adafactor",
    "transformers.optimization.Adafactor": "adafactor",
}
SCHEDULERS: Mapping[str, str] = {
    "transformers.get_scheduler": "",
    "transformers.get_cosine_schedule_with_warmup": "cosine",
    "transformers.get_linear_schedule_with_warmup": "linear",
    "transformers.get_constant_schedule_with_warmup": "constant_with_warmup",
    "transformers.get_constant_schedule": "constant",
}

PARTS: Mapping[str, str] = {
    **dict.fromkeys(("visual", "vision_tower", "vision_model", "vision_encoder", "vision_backbone"), "vision"),
    **dict.fromkeys(
        ("multi_modal_projector", "mm_projector", "projector", "connector", "merger", "embed_vision"), "projector"
    ),
    **dict.fromkeys(("language_model", "text_model"), "language"),
    **dict.fromkeys(("audio_tower", "embed_audio"), "audio"),
}
"""An attribute of a model to the part of `intent` that it is; models' own names."""

SECTION_TOUCHES: Mapping[str, tuple[Concern, ...]] = {
    "lora": ("memory", "placement"),
    "quantization": ("memory", "placement"),
    "model": ("memory", "placement", "labels"),
    "training": ("memory",),
    "data": ("data", "labels", "memory"),
    "hardware": ("memory",),
    "intent": ("placement",),
}
"""What a field of a run decides, by its section."""
