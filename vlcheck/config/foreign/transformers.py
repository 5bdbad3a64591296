"""Arguments of transformers' `TrainingArguments`, which TRL's config has too.

The keys are those of transformers 5.23 (transformers/training_args.py); releases whose wheels were read for what went:
4.12.5, 4.30.2, 4.46.3, 4.49.0, 4.57.6, 5.0.0, 5.2.0, 5.5.0, 5.10.0, 5.17.0, 5.23.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlcheck.config.foreign.draft import Draft, numbers
from vlcheck.config.foreign.keys import Fate, Gone, Idle, To, Together, Unjudged, idle, one_of, same, together, unjudged
from vlcheck.config.foreign.sharding import settle_sharding
from vlcheck.finding import Json
from vlcheck.spec import Outdated

_FILE = "transformers/training_args.py"


def _gone(has: str, lacks: str, instead: str = "", meant: To | Idle | Unjudged | Together | None = None) -> Gone:
    return Gone("transformers", lacks, f"{_FILE}: {has} has it, {lacks} has not", instead, meant or Idle())


def _ours(value: Json) -> Json:
    """The trackers that vlcheck's own loop has; others change nothing that is judged."""
    names = value if isinstance(value, list) else [value]
    return [name for name in names if name in ("tensorboard", "wandb")] or None


def _metric(value: Json) -> Json:
    return "eval_loss" if value == "loss" else value


GONE_OPTIMIZERS = {"adamw_hf": ("4.57.6", "adamw_torch"), "adamw_apex_fused": ("5.23.0", "adamw_torch_fused")}
"""Names that `optim` had, the first release read whose `OptimizerNames` lacks them, and what does the same."""

ARGUMENTS: Mapping[str, Fate] = {
    **same(
        "training",
        "output_dir per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps "
        "num_train_epochs max_steps learning_rate warmup_steps weight_decay adam_beta1 adam_beta2 adam_epsilon "
        "max_grad_norm bf16 fp16 gradient_checkpointing logging_steps eval_strategy eval_steps load_best_model_at_end "
        "run_name save_strategy save_steps save_total_limit dataloader_num_workers remove_unused_columns seed",
    ),
    "optim": To(
        "training.optim",
        one_of({name: instead for name, (_, instead) in GONE_OPTIMIZERS.items()}),
        otherwise=Unjudged(("memory",)),
    ),
    "lr_scheduler_type": To("training.lr_scheduler_type", otherwise=Idle()),
    "metric_for_best_model": To("training.metric_for_best_model", _metric, otherwise=Idle()),
    "report_to": To("training.report_to", _ours),
    "activation_checkpointing": To("training.gradient_checkpointing"),
    **together(
        "activation_checkpointing_kwargs gradient_checkpointing_kwargs deepspeed fsdp fsdp_config use_liger_kernel "
        "accelerator_config"
    ),
    **unjudged(
        "optim_target_modules torch_compile torch_compile_backend torch_compile_mode use_cache auto_find_batch_size "
        "bf16_full_eval fp16_full_eval use_cpu parallelism_config",
        "memory",
    ),
    **unjudged("label_smoothing_factor", "memory", "labels", harmless=(0, None)),
    **unjudged("label_names", "labels"),
    **idle(
        "lr_scheduler_kwargs optim_args average_tokens_across_devices tf32 liger_kernel_config neftune_noise_alpha "
        "torch_empty_cache_steps logging_strategy logging_first_step log_on_each_node logging_nan_inf_filter "
        "include_num_input_tokens_seen log_level log_level_replica disable_tqdm project trackio_space_id "
        "trackio_bucket_id trackio_static_space_id eval_delay prediction_loss_only eval_on_start "
        "eval_do_concat_batches eval_use_gather_object eval_accumulation_steps include_for_metrics "
        "batch_eval_metrics save_only_model save_on_each_node enable_jit_checkpoint push_to_hub hub_token "
        "hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision greater_is_better ignore_data_skip "
        "restore_callback_states_from_checkpoint full_determinism data_seed dataloader_drop_last "
        "dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
        "dataloader_multiprocessing_context dataloader_in_order train_sampling_strategy length_column_name "
        "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout "
        "debug skip_memory_metrics do_train do_eval do_predict resume_from_checkpoint local_rank"
    ),
    "evaluation_strategy": _gone("4.46.3", "4.57.6", "eval_strategy", To("training.eval_strategy")),
    "warmup_ratio": _gone("5.10.0", "5.17.0", "warmup_steps with a value below 1", Together()),
    "group_by_length": _gone("5.0.0", "5.2.0", "train_sampling_strategy: group_by_length"),
    "logging_dir": _gone("5.10.0", "5.17.0", "the environment variable TENSORBOARD_LOGGING_DIR"),
    "no_cuda": _gone("4.57.6", "5.0.0", "use_cpu", Unjudged(("memory",))),
    "adafactor": _gone("4.57.6", "5.0.0", "optim: adafactor", Unjudged(("memory",))),
    "sharded_ddp": _gone("4.30.2", "4.46.3", "fsdp", Unjudged(("memory",), (None, "", []))),
    "xpu_backend": _gone("4.30.2", "4.46.3", "ddp_backend"),
    "use_ipex": _gone("4.49.0", "4.57.6", "", Unjudged(("memory",))),
    "include_inputs_for_metrics": _gone("4.57.6", "5.0.0", "include_for_metrics"),
    "split_batches": _gone("4.46.3", "4.57.6", "accelerator_config: {split_batches: true}", Unjudged(("memory",))),
    "dispatch_batches": _gone("4.46.3", "4.57.6", "accelerator_config: {dispatch_batches: true}"),
    "fsdp_transformer_layer_cls_to_wrap": _gone("4.57.6", "5.0.0", "fsdp_config"),
    "fsdp_min_num_params": _gone("4.57.6", "5.0.0", "fsdp_config"),
    "per_gpu_train_batch_size": _gone(
        "4.57.6", "5.0.0", "per_device_train_batch_size", To("training.per_device_train_batch_size")
    ),
    "per_gpu_eval_batch_size": _gone(
        "4.57.6", "5.0.0", "per_device_eval_batch_size", To("training.per_device_eval_batch_size")
    ),
    **dict.fromkeys(
        (
            "overwrite_output_dir",
            "save_safetensors",
            "fp16_backend",
            "fp16_opt_level",
            "half_precision_backend",
            "include_tokens_per_second",
            "jit_mode_eval",
            "mp_parameters",
            "past_index",
            "push_to_hub_model_id",
            "push_to_hub_organization",
            "push_to_hub_token",
            "ray_scope",
            "torchdynamo",
            "tpu_metrics_debug",
            "tpu_num_cores",
            "use_legacy_prediction_loop",
            "use_mps_device",
        ),
        _gone("4.57.6", "5.0.0"),
    ),
}


def settle_arguments(draft: Draft) -> None:
    """What arguments mean together: warm-up told twice, keyword arguments of checkpointing, the loss, sharding."""
    given = draft.given
    since, instead = GONE_OPTIMIZERS.get(str(given.get("optim")), ("", ""))
    if since and numbers(draft.versions.get("transformers", "")) >= numbers(since):
        message = f"optim is {given['optim']}, which is no optimizer of transformers {draft.versions['transformers']}"
        draft.outdated.append(Outdated(draft.place("optim"), message, f"optim: {instead}"))
    if given.get("warmup_ratio") is not None and not given.get("warmup_steps"):  # steps outrank the ratio
        draft.put("training.warmup_steps", given["warmup_ratio"], "warmup_ratio")
    for key in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        if given.get(key) is not None:
            _checkpointing(draft, key)
    if draft.value("accelerator_config.split_batches"):
        draft.doubt("accelerator_config.split_batches", "memory")
    if draft.on("use_liger_kernel"):
        draft.put("training.logits", "fused", "use_liger_kernel")
    settle_sharding(draft)


def _checkpointing(draft: Draft, key: str) -> None:
    value = draft.mapping(key)
    if value is None:
        return
    for name in value:
        if name == "use_reentrant":
            draft.put("training.gradient_checkpointing_kwargs.use_reentrant", value[name], f"{key}.{name}")
        elif name == "preserve_rng_state":
            draft.without_effect(f"{key}.{name}")
        else:
            draft.doubt(f"{key}.{name}", "memory")


def local_or_hub(value: Json, folder: Path) -> Json:
    """A model's or data set's name as the run has it: a folder that is there starts with `./`."""
    if not isinstance(value, str) or value.startswith(("./", "../", "/", "~")) or not value:
        return value
    try:
        return f"./{value}" if (folder / value).exists() else value
    except (OSError, ValueError):  # longer than the file system's names
        return value
