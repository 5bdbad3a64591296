"""Axolotl's config file.

The keys are those of axolotl 0.19.0 (axolotl/utils/schemas/), whose models pass over keys that they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlcheck.config.foreign.adapters import BITSANDBYTES, settle_whole
from vlcheck.config.foreign.axolotl_data import settle_data
from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, Gone, Idle, To, Together, Unjudged, idle, same, together, unjudged
from vlcheck.config.foreign.sharding import settle_sharding
from vlcheck.config.foreign.templates import settle_template
from vlcheck.config.foreign.transformers import local_or_hub
from vlcheck.config.foreign.translate import Format, translated
from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.spec import Location, RunSpec

NAME = "axolotl"
RECOGNISED_BY = "base_model and processor_type"

_ELSEWHERE = Unjudged(("memory",))


def _gone(instead: str, meant: To | Idle | Together | None = None) -> Gone:
    source = "axolotl/utils/schemas/deprecated.py: refused, or read and not used"
    return Gone("axolotl", "0.19", source, instead, meant or Idle())


KEYS: Mapping[str, Fate] = {
    **together("base_model adapter load_in_4bit load_in_8bit bnb_config_kwargs lora_target_modules lora_target_linear"),
    **dict.fromkeys(("model_revision", "revision_of_model"), To("model.revision")),
    "lora_r": To("lora.r"),
    "lora_alpha": To("lora.lora_alpha"),
    "lora_dropout": To("lora.lora_dropout"),
    "lora_target_parameters": To("lora.target_parameters", lambda value: [value] if isinstance(value, str) else value),
    "lora_modules_to_save": To("lora.modules_to_save"),
    "lora_rank_pattern": To("lora.rank_pattern"),
    "lora_alpha_pattern": To("lora.alpha_pattern"),
    "peft_layers_to_transform": To("lora.layers_to_transform"),
    "peft_layers_pattern": To("lora.layers_pattern"),
    "peft_use_dora": To("lora.use_dora"),
    "peft_use_rslora": To("lora.use_rslora"),
    "peft_ensure_weight_tying": To("lora.ensure_weight_tying"),
    **unjudged("peft_init_lora_weights", "placement", harmless=(None, True, "gaussian")),
    **unjudged("lora_model_dir peft freeze_mm_modules unfrozen_parameters", "placement", harmless=(None, False, "")),
    **unjudged("peft_trainable_token_indices peft_layer_replication gptq relora", "memory", "placement"),
    **unjudged("lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel quantize_moe_experts", "memory"),
    **unjudged("peft_autocast_adapter_dtype", "memory", harmless=(None, True)),
    # steps
    **same(
        "training",
        "gradient_accumulation_steps learning_rate max_steps weight_decay adam_beta1 adam_beta2 adam_epsilon "
        "max_grad_norm logging_steps save_steps save_strategy save_total_limit eval_steps load_best_model_at_end "
        "early_stopping_patience seed output_dir dataloader_num_workers remove_unused_columns",
    ),
    "micro_batch_size": To("training.per_device_train_batch_size"),
    "eval_batch_size": To("training.per_device_eval_batch_size"),
    "num_epochs": To("training.num_train_epochs"),
    "lr_scheduler": To("training.lr_scheduler_type", otherwise=Idle()),
    "optimizer": To("training.optim", otherwise=_ELSEWHERE),
    "metric_for_best_model": To("training.metric_for_best_model", otherwise=Idle()),
    **together("warmup_ratio warmup_steps bf16 fp16 bfloat16 float16 gradient_checkpointing activation_offloading"),
    "gradient_checkpointing_kwargs": Together(),
    "sample_packing": To("training.packing"),
    "attn_implementation": To("model.attn_implementation", otherwise=_ELSEWHERE),
    **together("flash_attention sdp_attention eager_attention flex_attention plugins cut_cross_entropy"),
    **together("liger_fused_linear_cross_entropy chunked_cross_entropy deepspeed fsdp fsdp_config"),
    **unjudged(
        "gemma4_hybrid_attn_impl flash_attn_d512 large_head_attention sdpa_varlen fused_attn_kernel xformers_attention "
        "sage_attention flash_attn_cross_entropy flash_attn_fuse_mlp flash_optimum scaling_softmax layer_offloading "
        "selective_checkpointing auto_find_batch_size batch_size pad_to_sequence_len pad_to_multiple_of torch_compile "
        "fp8 fp32_norms fp32_norm_classes use_kernels experts_implementation use_scattermoe use_sonicmoe "
        "ple_cpu_offload tiled_mlp qat quantization deepcompile embeddings_skip_upcast optim_target_modules "
        "llama4_linearized_experts liger_rope liger_rms_norm liger_rms_norm_gated liger_layer_norm liger_swiglu "
        "liger_glu_activation liger_cross_entropy float32 max_memory gpu_memory_limit use_eaft lisa_n_layers",
        "memory",
    ),
    **unjudged(
        "context_parallel_size tensor_parallel_size sequence_parallel_degree dp_shard_size dp_replicate_size",
        "memory",
        harmless=(None, 1),
    ),
    **unjudged("model_config overrides_of_model_config model_kwargs overrides_of_model_kwargs", "memory", "placement"),
    **unjudged("image_size processor_kwargs", "memory", "labels"),
    # labels and rows
    "chat_template": Together(),
    **unjudged(
        "chat_template_jinja chat_template_kwargs role_boundaries special_tokens tokens added_tokens_overrides "
        "tokenizer_config train_on_inputs default_system_message fix_untrained_tokens",
        "labels",
        harmless=(None, False, {}),
    ),
    **together("datasets test_datasets val_set_size evals_per_epoch eval_strategy sequence_len"),
    **unjudged("dataset_exact_deduplication shards dataset_shard_num", "data"),
    **idle(
        "processor_type type_of_model model_type base_model_config cls_model_config tokenizer_type tokenizer_use_fast "
        "tokenizer_legacy tokenizer_use_mistral_common tokenizer_save_jinja_files trust_remote_code strict eot_tokens "
        "skip_prepare_dataset dataset_prepared_path dataset_processes dataset_num_proc dataset_keep_in_memory "
        "shuffle_merged_datasets shuffle_before_merging_datasets streaming excess_length_strategy eval_sequence_len "
        "min_sample_len eval_sample_packing sample_packing_eff_est group_by_length lora_fan_in_fan_out lora_on_cpu "
        "qlora_sharded_model_loading loraplus_lr_ratio loraplus_lr_embedding lr_scheduler_kwargs lr_groups "
        "embedding_lr embedding_lr_scale cosine_min_lr_ratio cosine_constant_lr_ratio lr_quadratic_warmup "
        "lr_div_factor optim_args "
        "tf32 neftune_noise_alpha saves_per_epoch save_only_model save_safetensors save_first_step fsdp_version "
        "fsdp_final_state_dict_type resume_from_checkpoint auto_resume_from_checkpoints local_rank world_size ddp "
        "ddp_timeout ddp_bucket_cap_mb ddp_broadcast_buffers ddp_find_unused_parameters device device_map "
        "accelerator_config dataloader_pin_memory dataloader_prefetch_factor dataloader_drop_last gc_steps "
        "gc_collect_steps torch_empty_cache_steps low_cpu_mem_usage experimental_skip_move_to_device "
        "image_resize_algorithm include_tokens_per_second include_tkps profiler_steps profiler_steps_start "
        "use_tensorboard use_wandb wandb_project wandb_entity wandb_watch wandb_name wandb_run_id wandb_mode "
        "wandb_log_model use_mlflow mlflow_tracking_uri mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts "
        "use_comet comet_api_key comet_workspace comet_project_name comet_experiment_key comet_mode comet_online "
        "use_trackio trackio_project_name trackio_run_name trackio_space_id hub_model_id hub_strategy hub_revision "
        "hf_use_auth_token push_dataset_to_hub use_otel_metrics otel_metrics_host otel_metrics_port "
        "loss_watchdog_threshold loss_watchdog_patience greater_is_better do_bench_eval do_causal_lm_eval "
        "generate_samples merge_lora merge_method "
        "flex_attn_compile_kwargs torch_compile_backend torch_compile_mode "
        "multipack_real_batches batch_flattening is_llama_derived_model is_mistral_derived_model is_qwen_derived_model"
    ),
    "evaluation_strategy": _gone("eval_strategy"),
    "noisy_embedding_alpha": _gone("neftune_noise_alpha"),
    "max_packed_sequence_len": _gone("sequence_len, with sample_packing: true"),
    "rope_scaling": _gone("model_config: {rope_scaling: ...}"),
    "flash_attn_rms_norm": _gone("liger_rms_norm: true"),
    "s2_attention": _gone(""),
    "eval_table_size": _gone("generate_samples: true"),
    "eval_max_new_tokens": _gone("generation_max_new_tokens"),
}  # fmt: skip


def recognises(document: Mapping[str, Json]) -> bool:
    """Tell whether the keys are Axolotl's."""
    return "base_model" in document and sum(key in KEYS for key in document) > 1


def to_spec(
    document: Mapping[str, Json], sources: Mapping[str, Location], folder: Path, *, stated: str | None = None
) -> RunSpec:
    """Read Axolotl's config.

    Args:
        document: what the file holds, as plain values.
        sources: dotted path to the place that set it.
        folder: what relative paths in the document are relative to.
        stated: version of Axolotl; by default the installed one.

    Raises:
        ConfigError: with every problem of the document, sorted by place.
    """
    return translated(FORMAT, document, sources, folder, stated=stated)


def settle(draft: Draft) -> None:
    """What Axolotl's keys mean together."""
    for key in ("rl", "reward_model", "process_reward_model", "pretraining_dataset", "ebft"):
        if draft.value(key):
            draft.refuse(key, f"{key} is {quoted(draft.value(key))}; vlcheck judges supervised fine-tuning")
    if isinstance(draft.value("base_model"), str):
        draft.put("model.id", local_or_hub(draft.value("base_model"), draft.folder), "base_model")
    else:
        draft.refuse("base_model", f"base_model is {quoted(draft.value('base_model'))}; allowed: a Hub id or a folder")
    settle_template(draft, "chat_template", "base_model")
    _adapters(draft)
    _precision(draft)
    _steps(draft)
    _loss(draft)
    _fsdp(draft)
    settle_data(draft)


def _adapters(draft: Draft) -> None:
    adapter = draft.value("adapter")
    if adapter in (None, ""):  # blank trains every weight, axolotl/utils/schemas/peft.py
        settle_whole(draft, "adapter")
        _bits(draft)
        return
    if adapter not in ("lora", "qlora"):
        message = f"adapter is {quoted(adapter)}; vlcheck judges runs of LoRA and full ones; allowed: lora, qlora, null"
        draft.refuse("adapter", message)
        return
    draft.sources["lora"] = draft.place("adapter")
    draft.document.setdefault("lora", {})
    targets = draft.value("lora_target_modules")
    if draft.on("lora_target_linear"):  # by their last names, in every part: axolotl/loaders/adapter.py:54-73
        draft.put("lora.target_modules", "all-linear", "lora_target_linear")
        if targets:
            draft.doubt("lora_target_modules", "placement", message="is joined with the names of all linear layers")
    elif targets:
        draft.put("lora.target_modules", targets, "lora_target_modules")
    bits = _bits(draft)
    if adapter == "qlora" and bits != ["load_in_4bit"]:
        draft.refuse("adapter", "adapter is qlora and load_in_4bit is not true; axolotl requires load_in_4bit: true")
    if bits == ["load_in_4bit"] and draft.mapping("bnb_config_kwargs"):
        draft.read(BITSANDBYTES, prefix="bnb_config_kwargs.")


def _bits(draft: Draft) -> list[str]:
    bits = [key for key in ("load_in_4bit", "load_in_8bit") if draft.on(key)]
    if bits:
        draft.sources["quantization"] = draft.place(bits[0])
    for key in bits:
        draft.put(f"quantization.{key}", True, key)
    return bits


def _precision(draft: Draft) -> None:
    """bf16 is `auto` unless told otherwise, which is true on the cards that vlcheck knows; axolotl/utils/config."""
    if draft.on("fp16"):
        draft.put("training.fp16", True, "fp16")
        draft.put("training.bf16", False, "fp16")
        draft.put("model.dtype", "float16", "fp16")
    elif draft.value("bf16") == "full":
        draft.put("training.bf16", True, "bf16")
    elif draft.value("bf16") not in (None, "auto"):
        draft.put("training.bf16", draft.value("bf16"), "bf16")
        if not draft.on("bf16"):
            draft.put("model.dtype", "float32", "bf16")
    for key, name in (("bfloat16", "bfloat16"), ("float16", "float16")):  # the type without mixed precision
        if draft.on(key):
            draft.put("model.dtype", name, key)
            draft.put("training.bf16", False, key)


def _steps(draft: Draft) -> None:
    for key in ("warmup_steps", "warmup_ratio"):  # the first that is told, axolotl/core/builders/base.py:240
        if draft.value(key) is not None:
            draft.put("training.warmup_steps", draft.value(key), key)
            break
    checkpointing = draft.value("gradient_checkpointing")
    if checkpointing is not None:
        offloaded = checkpointing in ("offload", "offload_disk")
        draft.put("training.gradient_checkpointing", True if offloaded else checkpointing, "gradient_checkpointing")
        if offloaded:
            draft.doubt("gradient_checkpointing", "memory")
    kwargs = draft.mapping("gradient_checkpointing_kwargs")
    for name in kwargs or ():
        if name == "use_reentrant":
            key = f"gradient_checkpointing_kwargs.{name}"
            draft.put("training.gradient_checkpointing_kwargs.use_reentrant", draft.value(key), key)
        else:
            draft.doubt(f"gradient_checkpointing_kwargs.{name}", "memory")
    offloading = draft.value("activation_offloading")
    if isinstance(offloading, bool):
        draft.put("training.activation_offloading", offloading, "activation_offloading")
    elif offloading is not None:
        draft.doubt("activation_offloading", "memory")
    for key, name in _ATTENTION.items():
        if draft.on(key) and draft.value("attn_implementation") is None:
            draft.put("model.attn_implementation", name, key)


_ATTENTION = {
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
    "flex_attention": "flex_attention",
}
"""Switches from before `attn_implementation`, axolotl/utils/schemas/config.py:797-845."""


def _loss(draft: Draft) -> None:
    plugins = draft.value("plugins")
    for number, plugin in enumerate(plugins if isinstance(plugins, list) else []):
        if "cut_cross_entropy" in str(plugin) and draft.value("cut_cross_entropy") is not False:
            draft.put("training.logits", "fused", f"plugins.{number}")
        elif not any(name in str(plugin) for name in ("cut_cross_entropy", "liger", "kernels")):
            draft.doubt(f"plugins.{number}", message=f"{quoted(plugin)} is code that vlcheck has not read")
    if draft.on("liger_fused_linear_cross_entropy"):
        draft.put("training.logits", "fused", "liger_fused_linear_cross_entropy")
    elif draft.on("chunked_cross_entropy"):
        draft.put("training.logits", "chunked", "chunked_cross_entropy")


def _fsdp(draft: Draft) -> None:
    """FSDP's settings have a prefix or none, and those of FSDP 2 need no `fsdp` (axolotl/utils/schemas/fsdp.py)."""
    given = draft.mapping("fsdp_config") or {}
    plain = {name.removeprefix("fsdp_"): value for name, value in given.items()}
    divides = {name: plain.pop(name, None) for name in ("sharding_strategy", "reshard_after_forward", "offload_params")}
    places = {name.removeprefix("fsdp_"): draft.place(f"fsdp_config.{name}") for name in given}
    draft.hold("fsdp_config", plain, places)
    settle_sharding(draft)
    if given:
        words = str(draft.document.get("training", {}).get("fsdp") or "full_shard auto_wrap").split()
        strategy = str(divides["sharding_strategy"] or "").lower()
        if strategy == "shard_grad_op" or divides["reshard_after_forward"] is False:
            words[0] = "shard_grad_op"
        if divides["offload_params"] is True:
            words.append("offload")
        draft.put("training.fsdp", " ".join(dict.fromkeys(words)), "fsdp_config")


FORMAT = Format(name=NAME, framework="axolotl", packages=("axolotl",), keys=KEYS, settle=settle)
