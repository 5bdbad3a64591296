"""LLaMA-Factory's config file.

The keys are those of llamafactory 0.9.5 (llamafactory/hparams/), on `Seq2SeqTrainingArguments` of a transformers of at
most 5.6.0 (llamafactory/extras/misc.py:97); its parser refuses a key that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlcheck.config.foreign.adapters import settle_bits, settle_frozen, settle_whole
from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, To, Unjudged, idle, same, together, unjudged
from vlcheck.config.foreign.llamafactory_data import settle_data
from vlcheck.config.foreign.pixels import settle_pixels
from vlcheck.config.foreign.templates import settle_template
from vlcheck.config.foreign.transformers import ARGUMENTS, local_or_hub, settle_arguments
from vlcheck.config.foreign.translate import Format, translated
from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.spec import Location, RunSpec

NAME = "llamafactory"
RECOGNISED_BY = "model_name_or_path beside finetuning_type, stage, template or cutoff_len"
_TELLTALE = {"stage", "finetuning_type", "template", "cutoff_len", "dataset_dir", "freeze_vision_tower"}


def _names(value: Json) -> Json:
    """A text with commas is a list, as `FinetuningArguments.__post_init__` splits it."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


KEYS: Mapping[str, Fate] = {
    **ARGUMENTS,
    # its own TrainingArguments
    **idle(
        "overwrite_output_dir ray_num_workers ray_init_kwargs master_addr master_port enable_torch_profiler "
        "profiler_output_dir profiler_wait_steps profiler_warmup_steps profiler_active_steps profiler_repeat "
        "profiler_record_shapes profiler_profile_memory profiler_with_stack profile_modules sortish_sampler "
        "predict_with_generate generation_max_length generation_num_beams generation_config"
    ),
    **unjudged("fp8 fp8_enable_fsdp_float8_all_gather", "memory"),
    **idle("fp8_backend"),
    # ModelArguments
    **together("model_name_or_path flash_attn enable_liger_kernel quantization_bit quantization_method"),
    **together("disable_gradient_checkpointing use_reentrant_gc image_max_pixels"),
    "model_revision": To("model.revision"),
    **together("quantization_type double_quantization"),
    **unjudged("adapter_name_or_path", "placement"),
    **unjudged("resize_vocab add_tokens add_special_tokens new_special_tokens_config", "labels", "memory"),
    **unjudged(
        "rope_scaling shift_attn mixture_of_depths use_unsloth use_unsloth_gc upcast_layernorm upcast_lmhead_output "
        "use_v1_kernels use_kt train_from_scratch quantization_device_map",
        "memory",
    ),
    **unjudged("image_do_pan_and_scan crop_to_patches", "memory"),
    **unjudged("image_min_pixels", "memory", harmless=(None, 1024)),
    **unjudged("split_special_tokens", "labels"),
    **idle(
        "adapter_folder cache_dir use_fast_tokenizer init_special_tokens low_cpu_mem_usage moe_aux_loss_coef "
        "infer_backend offload_folder use_kv_cache infer_dtype hf_hub_token ms_hub_token om_hub_token "
        "print_param_status trust_remote_code video_max_pixels video_min_pixels video_fps video_maxlen "
        "use_audio_in_video audio_sampling_rate export_dir export_size export_device export_quantization_bit "
        "export_quantization_dataset export_quantization_nsamples export_quantization_maxlen export_legacy_format "
        "export_hub_model_id vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config "
        "sglang_maxlen sglang_mem_fraction sglang_tp_size sglang_config sglang_lora_backend kt_weight_path "
        "kt_expert_checkpoint_path kt_use_lora_experts kt_lora_expert_num kt_lora_expert_intermediate_size"
    ),
    # FinetuningArguments
    **together("stage finetuning_type lora_target freeze_vision_tower freeze_multi_modal_projector"),
    **together("freeze_language_model pure_bf16"),
    "lora_rank": To("lora.r"),
    **same("lora", "lora_alpha lora_dropout use_rslora use_dora"),
    "additional_target": To("lora.modules_to_save", _names),
    "early_stopping_steps": To("training.early_stopping_patience"),
    **unjudged("pissa_init use_llama_pro", "placement"),
    **unjudged("use_galore use_apollo use_badam use_adam_mini use_muon use_mca use_hyper_parallel", "memory"),
    **unjudged("use_dft_loss use_asft_loss use_eaft_loss", "memory", "labels"),
    **idle(
        "loraplus_lr_ratio loraplus_lr_embedding pissa_iter pissa_convert create_new_adapter freeze_trainable_layers "
        "freeze_trainable_modules freeze_extra_modules module_dropout oft_rank oft_block_size oft_target asft_alpha "
        "eaft_alpha hyper_parallel_args compute_accuracy disable_shuffling plot_loss "
        "include_effective_tokens_per_second use_swanlab swanlab_project swanlab_workspace swanlab_run_name "
        "swanlab_mode swanlab_api_key swanlab_logdir swanlab_lark_webhook_url swanlab_lark_secret galore_target "
        "galore_rank galore_update_interval galore_scale galore_proj_type galore_layerwise apollo_target apollo_rank "
        "apollo_update_interval apollo_scale apollo_proj apollo_proj_type apollo_layerwise apollo_scale_type "
        "apollo_scale_front badam_mode badam_start_block badam_switch_mode badam_switch_interval badam_update_ratio "
        "badam_mask_mode badam_verbose pref_beta pref_ftx pref_bco_weight pref_loss dpo_label_smoothing "
        "kto_chosen_weight kto_rejected_weight simpo_gamma ppo_buffer_size ppo_epochs ppo_score_norm ppo_target "
        "ppo_whiten_rewards ref_model ref_model_adapters ref_model_quantization_bit reward_model "
        "reward_model_adapters reward_model_quantization_bit reward_model_type ld_alpha"
    ),
    # DataArguments, GeneratingArguments
    **together("template dataset eval_dataset dataset_dir media_dir val_size"),
    "cutoff_len": To("data.max_length"),
    "max_samples": To("data.train_samples"),
    "packing": To("training.packing"),
    **unjudged("neat_packing", "memory"),
    **unjudged("train_on_prompt mask_history tool_format default_system preserve_thinking", "labels"),
    **unjudged("enable_thinking", "labels", harmless=(None, True)),
    **unjudged("ignore_pad_token_for_loss", "labels", harmless=(None, True)),
    "mix_strategy": Unjudged(("data",), (None, "concat")),
    **unjudged("tokenized_path interleave_probs", "data"),
    **idle(
        "streaming buffer_size overwrite_cache preprocessing_batch_size preprocessing_num_workers eval_num_beams "
        "eval_on_each_dataset data_shared_file_system do_sample temperature top_p top_k num_beams max_length "
        "max_new_tokens repetition_penalty length_penalty skip_special_tokens"
    ),
}


def recognises(document: Mapping[str, Json]) -> bool:
    """Tell whether the keys are LLaMA-Factory's."""
    theirs = {"use_peft", "dataset_name"}  # TRL's, which names its model alike
    return "model_name_or_path" in document and bool(_TELLTALE & set(document)) and not theirs & set(document)


def to_spec(
    document: Mapping[str, Json], sources: Mapping[str, Location], folder: Path, *, stated: str | None = None
) -> RunSpec:
    """Read LLaMA-Factory's config.

    Args:
        document: what the file holds, as plain values.
        sources: dotted path to the place that set it.
        folder: what relative paths in the document are relative to.
        stated: version of LLaMA-Factory; by default the installed one.

    Raises:
        ConfigError: with every problem of the document, sorted by place.
    """
    return translated(FORMAT, document, sources, folder, stated=stated)


def settle(draft: Draft) -> None:
    """What LLaMA-Factory's keys mean together."""
    stage = draft.value("stage")
    if stage not in (None, "sft"):
        draft.refuse("stage", f"stage is {quoted(stage)}; vlcheck judges supervised fine-tuning; allowed: sft")
    method = draft.value("finetuning_type")
    if method not in (None, "lora", "full"):
        message = f"finetuning_type is {quoted(method)}; vlcheck judges runs of LoRA and full ones; allowed: lora, full"
        draft.refuse("finetuning_type", message)
    settle_arguments(draft)
    draft.put("model.id", local_or_hub(draft.value("model_name_or_path"), draft.folder), "model_name_or_path")
    settle_template(draft, "template", "model_name_or_path")
    settle_pixels(draft, "image_max_pixels", model="model_name_or_path", default=768 * 768,
                  source="llamafactory/hparams/model_args.py:305")  # fmt: skip
    if method == "full":
        settle_whole(draft, "finetuning_type")
        settle_frozen(draft, SWITCHES)
    else:
        _adapters(draft)
    _quantization(draft)
    _loading(draft)
    if method == "full":
        _upcast(draft)
    elif draft.on("pure_bf16"):
        draft.doubt("pure_bf16", "memory")
    settle_data(draft)


def _adapters(draft: Draft) -> None:
    draft.document.setdefault("lora", {})
    draft.sources["lora"] = draft.place("finetuning_type")
    targets = _names(draft.value("lora_target"))
    if targets is not None:
        draft.put("lora.target_modules", "all-linear" if targets == ["all"] else targets, "lora_target")
    settle_frozen(draft, SWITCHES)


SWITCHES = {
    "vision": "freeze_vision_tower",
    "projector": "freeze_multi_modal_projector",
    "language": "freeze_language_model",
}
"""Of them vision tower and projector are frozen unless told otherwise, llamafactory/hparams/finetuning_args.py:527."""


def _upcast(draft: Draft) -> None:
    """What is trained in full is cast to fp32, but under DeepSpeed, which trains copies (model/adapter.py:330-341)."""
    if draft.on("pure_bf16") or "zero_optimization" in draft.document.get("training", {}):
        return
    draft.put("model.dtype", "float32", "finetuning_type")
    draft.assumed.append("llamafactory trains in fp32 what it trains in full; frozen parts were judged so too")


def _quantization(draft: Draft) -> None:
    method = draft.value("quantization_method") or "bnb"
    if draft.value("quantization_bit") is not None:
        settle_bits(draft, "quantization_bit", bnb=method == "bnb", method=str(method), place="quantization_bit",
                    fields={"quantization_type": "quant_type", "double_quantization": "use_double_quant"})  # fmt: skip


ATTENTION = {"fa2": "flash_attention_2", "fa3": "flash_attention_3", "disabled": "eager", "sdpa": "sdpa"}


def _loading(draft: Draft) -> None:
    if (asked := draft.value("flash_attn")) not in (None, "auto"):
        draft.put("model.attn_implementation", ATTENTION.get(str(asked), asked), "flash_attn")
    if draft.on("fp16"):
        draft.put("model.dtype", "float16", "fp16")
    if draft.value("disable_gradient_checkpointing") is not None:
        off = draft.on("disable_gradient_checkpointing")
        draft.put("training.gradient_checkpointing", not off, "disable_gradient_checkpointing")
    if draft.value("use_reentrant_gc") is not None:
        key = "training.gradient_checkpointing_kwargs.use_reentrant"
        draft.put(key, draft.on("use_reentrant_gc"), "use_reentrant_gc")
    if draft.on("enable_liger_kernel"):
        draft.put("training.logits", "fused", "enable_liger_kernel")


FORMAT = Format(
    name=NAME,
    framework="llamafactory",
    packages=("llamafactory", "transformers"),
    pins={"transformers": "5.6.0"},
    keys=KEYS,
    settle=settle,
)
