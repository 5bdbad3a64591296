"""ms-swift's config file, and the arguments of `swift sft`.

The keys are those of ms-swift 4.6.0 (swift/arguments/sft_args.py and base_args/, tuner_args.py, trainers/arguments.py),
on `Seq2SeqTrainingArguments` of a transformers before 5.20 (requirements/framework.txt:34).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from vlcheck.config.foreign.adapters import settle_bits, settle_frozen, settle_whole
from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, Gone, Idle, To, Together, Unjudged, idle, same, together, unjudged
from vlcheck.config.foreign.ms_swift_data import settle_data
from vlcheck.config.foreign.pixels import settle_pixels
from vlcheck.config.foreign.templates import settle_template
from vlcheck.config.foreign.transformers import ARGUMENTS, local_or_hub, settle_arguments
from vlcheck.config.foreign.translate import Format, translated
from vlcheck.config.reading.mappings import plain_values
from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.spec import ConfigError, Location, RunSpec

NAME = "ms-swift"
RECOGNISED_BY = "model, a text, and mostly arguments of `swift sft` such as tuner_type, dataset or torch_dtype"

_ATTENTION = {"flash_attn": "flash_attention_2"}


def _attention(value: Json) -> Json:
    return _ATTENTION.get(value, value) if isinstance(value, str) else value


def _named(value: Json) -> Json:
    """One name is a list of one, as the command line has it."""
    return [value] if isinstance(value, str) else value


KEYS: Mapping[str, Fate] = {
    **ARGUMENTS,
    # trainers/arguments.py declares what transformers has dropped
    **together("warmup_ratio"),
    **idle("logging_dir group_by_length"),
    "max_epochs": To("training.num_train_epochs"),
    "early_stop_interval": To("training.early_stopping_patience"),
    **together("use_logits_to_keep"),
    **unjudged("optimizer mrl_dims use_galore use_flash_ckpt", "memory"),
    **unjudged("loss_type enable_dft_loss", "memory", "labels"),
    **unjudged("lisa_activated_layers router_aux_loss_coef", "memory", harmless=(None, 0)),
    **unjudged("vit_gradient_checkpointing", "memory", harmless=(None, True)),
    **idle(
        "enable_channel_loss safe_serialization max_shard_size check_model acc_strategy train_dataloader_shuffle "
        "aligner_lr vit_lr ds3_gather_for_generation resume_only_model eval_metric callbacks eval_use_evalscope "
        "eval_dataset eval_dataset_args eval_limit eval_generation_config extra_eval_args galore_target_modules "
        "galore_rank galore_update_proj_gap galore_scale galore_proj_type galore_optim_per_parameter "
        "galore_with_embedding galore_quantization galore_proj_quant galore_proj_bits galore_proj_group_size "
        "galore_cos_threshold galore_gamma_proj galore_queue_size lisa_step_interval sortish_sampler "
        "predict_with_generate generation_max_length generation_num_beams generation_config"
    ),
    # model_args.py, quant_args.py
    **together("model quant_method quant_bits bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_4bit_compute_dtype"),
    **together("bnb_4bit_quant_storage"),
    "model_revision": To("model.revision"),
    "torch_dtype": To("model.dtype"),
    "attn_impl": To("model.attn_implementation", _attention, otherwise=Unjudged(("memory",))),
    **unjudged("rope_scaling max_model_len experts_impl device_map max_memory", "memory"),
    **unjudged("task_type", "labels", harmless=(None, "causal_lm")),
    **unjudged("new_special_tokens", "labels", "memory", harmless=(None, [])),
    **together("ENV model_kwargs"),
    **idle("model_type num_labels problem_type local_repo_path init_strategy hqq_axis"),
    # tuner_args.py
    **together("tuner_type train_type target_modules target_regex freeze_llm freeze_vit freeze_aligner"),
    "lora_rank": To("lora.r"),
    **same("lora", "lora_alpha lora_dropout use_rslora use_dora"),
    "lora_bias": To("lora.bias"),
    "modules_to_save": To("lora.modules_to_save", _named),
    "target_parameters": To("lora.target_parameters", _named),
    **unjudged("lora_dtype", "memory"),
    **unjudged("init_weights", "placement", harmless=(None, True, "true", "True", "gaussian")),
    **unjudged("adapters freeze_parameters trainable_parameters", "placement", harmless=(None, [])),
    **unjudged("freeze_parameters_regex trainable_parameters_regex", "placement"),
    **unjudged("freeze_parameters_ratio", "placement", harmless=(None, 0)),
    **idle(
        "lorap_lr_ratio lora_ga_batch_size lora_ga_iters lora_ga_max_length lora_ga_direction lora_ga_scale "
        "lora_ga_stable_gamma fourier_n_frequency fourier_scaling boft_block_size boft_block_num "
        "boft_n_butterfly_factor boft_dropout vera_rank vera_projection_prng_key vera_dropout vera_d_initial "
        "adapter_act adapter_length adalora_target_r adalora_init_r adalora_tinit adalora_tfinal adalora_deltaT "
        "adalora_beta1 adalora_beta2 adalora_orth_reg_weight llamapro_num_new_blocks llamapro_num_groups "
        "reft_layer_key reft_layers reft_rank reft_intervention_type reft_args"
    ),
    # variables of the environment: swift/cli/main.py:30, swift/template/templates/qwen.py
    "num_processes": To("hardware.count"),
    "image_max_token_num": To("data.max_soft_tokens"),
    # base_args.py, sft_args.py, generation_args.py, ray_args.py
    **unjudged("tuner_backend", "memory", "placement", harmless=(None, "peft")),
    **unjudged("external_plugins custom_register_path", "memory", "labels", "placement", "data", harmless=(None, [])),
    **same("training", "packing padding_free"),
    **unjudged("packing_length", "memory"),
    **unjudged("zero_hpz_partition_size deepspeed_autotp_size", "memory"),
    **idle(
        "load_args load_data_args packing_num_proc packing_strategy lazy_tokenize use_hf hub_token ignore_args_error "
        "use_swift_lora enable_npu_model_patch add_version create_checkpoint_symlink max_new_tokens temperature top_k "
        "top_p repetition_penalty num_beams stream stop_words logprobs top_logprobs structured_outputs_regex "
        "swanlab_token swanlab_project swanlab_workspace swanlab_exp_name swanlab_notification_method "
        "swanlab_webhook_url swanlab_secret swanlab_sender_email swanlab_receiver_email swanlab_smtp_server "
        "swanlab_smtp_port swanlab_email_language swanlab_mode use_ray ray_exp_name device_groups"
    ),
    # template_args.py
    **together("template max_pixels"),
    "max_length": To("data.max_length"),
    **unjudged("system agent_template response_prefix", "labels"),
    **unjudged("truncation_strategy", "labels", harmless=(None, "delete")),
    **unjudged("loss_scale", "labels", harmless=(None, "default")),
    **unjudged("use_chat_template add_non_thinking_prefix", "labels", harmless=(None, True)),
    **unjudged("is_binary_loss_scale", "labels"),
    **unjudged("sequence_parallel_size", "memory", harmless=(None, 1)),
    **idle("norm_bbox padding_side template_backend enable_thinking preserve_thinking disable_ignore_empty_think"),
    # data_args.py
    **together("dataset val_dataset split_dataset_ratio"),
    **unjudged(
        "cached_dataset cached_val_dataset custom_dataset_info columns interleave_prob", "data", harmless=(None, [])
    ),
    **idle(
        "data_seed dataset_num_proc load_from_cache_file dataset_shuffle val_dataset_shuffle streaming "
        "stopping_strategy shuffle_buffer_size download_mode strict disable_auto_column_mapping model_name "
        "model_author decision_drop_instructions decision_subsample_options decision_state_as_text "
        "decision_shuffle_fields"
    ),
    **{
        old: Gone("ms-swift", "4.6", "3.12 takes it, swift/arguments of 4.6.0 does not", new, meant)
        for old, new, meant in (
            ("train_type", "tuner_type", Together()),
            ("sft_type", "tuner_type", Together()),
            ("model_id_or_path", "model", Together()),
            ("lora_target_modules", "target_modules", Together()),
            ("batch_size", "per_device_train_batch_size", To("training.per_device_train_batch_size")),
            ("quantization_bit", "quant_method: bnb and quant_bits", Idle()),
        )
    },
}


def recognises(document: Mapping[str, Json]) -> bool:
    """Tell whether `model` is a name and most of the other keys are of `swift sft`: other tools name theirs so too."""
    return any(isinstance(document.get(key), str) for key in ("model", "model_id_or_path")) and sum(
        key in KEYS for key in document
    ) > max(1, len(document) // 2)


def to_spec(
    document: Mapping[str, Json], sources: Mapping[str, Location], folder: Path, *, stated: str | None = None
) -> RunSpec:
    """Read ms-swift's config.

    Args:
        document: what the file holds, as plain values.
        sources: dotted path to the place that set it.
        folder: what relative paths in the document are relative to.
        stated: version of ms-swift; by default the installed one.

    Raises:
        ConfigError: with every problem of the document, sorted by place.
    """
    return translated(FORMAT, document, sources, folder, stated=stated)


def settle(draft: Draft) -> None:
    """What ms-swift's keys mean together."""
    if draft.value("rlhf_type") is not None:
        draft.refuse(
            "rlhf_type", f"rlhf_type is {quoted(draft.value('rlhf_type'))}; vlcheck judges supervised fine-tuning"
        )
    model = "model" if draft.value("model") is not None else "model_id_or_path"
    draft.put("model.id", local_or_hub(draft.value(model), draft.folder), model)
    _opened(draft)
    _presets(draft)
    settle_arguments(draft)
    settle_template(draft, "template", model)
    settle_pixels(draft, next((key for key in _PIXELS if draft.value(key) is not None), "max_pixels"), model=model)
    _adapters(draft)
    _quantization(draft)
    if draft.value("use_logits_to_keep") is not None:
        logits = "supervised" if draft.on("use_logits_to_keep") else "all"
        draft.put("training.logits", logits, "use_logits_to_keep")
    settle_data(draft)


_ZERO: Mapping[str, Mapping[str, Json]] = {
    "zero0": {"stage": 0},
    "zero1": {"stage": 1},
    "zero2": {"stage": 2},
    "zero3": {"stage": 3},
    "zero2_offload": {"stage": 2, "offload_optimizer.device": "cpu"},
    "zero3_offload": {"stage": 3, "offload_optimizer.device": "cpu", "offload_param.device": "cpu"},
}
"""swift/config/*.json."""


_PIXELS = ("ENV.MAX_PIXELS", "model_kwargs.MAX_PIXELS", "model_kwargs.max_pixels", "max_pixels")
"""Where an image's largest number of pixels may stand; the first bounds what the model's own processor takes."""


_ENVIRONMENT = {"NPROC_PER_NODE": "hardware.count", "IMAGE_MAX_TOKEN_NUM": "data.max_soft_tokens"}


def _opened(draft: Draft) -> None:
    """Read JSON that stands in a text (swift/utils/utils.py:490), and what the environment says."""
    for key in ("gradient_checkpointing_kwargs", "model_kwargs", "deepspeed", "fsdp_config"):
        value = draft.value(key)
        if isinstance(value, str) and value.startswith("{"):
            try:
                document, _ = plain_values(json.loads(value), draft.place(key).file)
            except (ValueError, RecursionError, ConfigError):
                draft.refuse(key, f"{key} is {quoted(value)}; allowed: a JSON object")
            else:
                draft.hold(key, document, {})
    for name in draft.mapping("ENV") or ():
        if name in _ENVIRONMENT:
            draft.put(_ENVIRONMENT[name], draft.value(f"ENV.{name}"), f"ENV.{name}")
        elif name not in ("CUDA_VISIBLE_DEVICES", "MAX_PIXELS"):
            draft.doubt(f"ENV.{name}", "memory", "labels")
    for name in draft.mapping("model_kwargs") or ():
        if name.lower() != "max_pixels":
            draft.doubt(f"model_kwargs.{name}", "memory", "labels")


def _presets(draft: Draft) -> None:
    """DeepSpeed's configs and FSDP's that ms-swift brings, by their names."""
    name = draft.value("deepspeed")
    if isinstance(name, str) and name in _ZERO:
        draft.given["deepspeed"] = None
        for path, value in _ZERO[name].items():
            draft.put(f"training.zero_optimization.{path}", value, "deepspeed")
    if draft.value("fsdp") == "fsdp2":
        draft.given["fsdp"] = "full_shard auto_wrap"
        message = "fsdp2 checkpoints activations itself, and gradient_checkpointing was judged"
        draft.doubt("fsdp", "memory", message=message)


def _adapters(draft: Draft) -> None:
    for key in ("tuner_type", "train_type", "sft_type"):
        kind = draft.value(key)
        if kind == "full":
            settle_whole(draft, key)
            settle_frozen(draft, SWITCHES)
            return
        if kind not in (None, "lora"):
            message = f"{key} is {quoted(kind)}; vlcheck judges runs of LoRA and full ones; allowed: lora, full"
            draft.refuse(key, message)
    draft.document.setdefault("lora", {})
    draft.sources["lora"] = draft.place("tuner_type")
    for key in ("lora_target_modules", "target_modules", "target_regex"):  # the last outranks, tuner_args.py:196
        value = draft.value(key) if key == "target_regex" else _named(draft.value(key))
        if isinstance(value, list) and "all-linear" in value:
            if len(value) > 1:
                draft.doubt(key, "placement")
            value = "all-linear"
        if value is not None:
            draft.put("lora.target_modules", value, key)
    settle_frozen(draft, SWITCHES)


SWITCHES = {"vision": "freeze_vit", "projector": "freeze_aligner", "language": "freeze_llm"}
"""Tower (an audio tower too) and projector are frozen unless told otherwise, swift/arguments/tuner_args.py:122-124."""


def _quantization(draft: Draft) -> None:
    method, bits = draft.value("quant_method"), draft.value("quant_bits")
    fields = {f"bnb_4bit_{name}": name for name in ("quant_type", "use_double_quant", "compute_dtype", "quant_storage")}
    if (method, bits) != (None, None) and settle_bits(
        draft, "quant_bits", bnb=method == "bnb", method=quoted(method), place="quant_method", fields=fields
    ):
        draft.assumed.append(
            "ms-swift leaves vision tower, projector and head unquantised (base_args/quant_args.py:96); "
            "they were judged as quantised"
        )


FORMAT = Format(
    name=NAME,
    framework="ms-swift",
    packages=("ms-swift", "transformers"),
    pins={"transformers": "5.19"},
    keys=KEYS,
    settle=settle,
)
