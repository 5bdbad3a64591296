"""What a run divides among GPUs: DeepSpeed's config, accelerate's and FSDP's, inline or in a file that the run names.

Keys of DeepSpeed 0.18's JSON, and of accelerate 1.15 (accelerate/commands/config/config_args.py, utils/dataclasses.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, To, idle, together, unjudged
from vlcheck.config.reading.quoting import quoted
from vlcheck.config.reading.yaml_lines import read_yaml
from vlcheck.finding import Json

_ZERO: Mapping[str, Fate] = {
    "stage": To("training.zero_optimization.stage"),
    **together("offload_optimizer offload_param"),
    **idle(
        "overlap_comm contiguous_gradients sub_group_size reduce_bucket_size reduce_scatter allgather_partitions "
        "allgather_bucket_size round_robin_gradients stage3_prefetch_bucket_size stage3_param_persistence_threshold "
        "stage3_max_live_parameters stage3_max_reuse_distance stage3_gather_16bit_weights_on_model_save "
        "ignore_unused_parameters memory_efficient_linear elastic_checkpoint"
    ),
}
_DEEPSPEED: Mapping[str, Fate] = {
    **together("zero_optimization"),
    **unjudged("optimizer activation_checkpointing tensor_parallel sequence_parallel_size pipeline", "memory"),
    **idle(
        "train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps gradient_clipping bf16 fp16 "
        "steps_per_print wall_clock_breakdown scheduler zero_allow_untested_optimizer communication_data_type amp "
        "prescale_gradients gradient_predivide_factor zero_force_ds_cpu_optimizer flops_profiler tensorboard wandb"
    ),
}
_FSDP: Mapping[str, Fate] = {
    **unjudged("activation_checkpointing offload_params", "memory"),
    **idle(
        "version auto_wrap_policy transformer_layer_cls_to_wrap min_num_params backward_prefetch "
        "backward_prefetch_policy forward_prefetch use_orig_params sync_module_states cpu_ram_efficient_loading "
        "state_dict_type limit_all_gathers reshard_after_forward sharding_strategy xla xla_fsdp_settings "
        "xla_fsdp_grad_ckpt"
    ),
}
_ACCELERATE: Mapping[str, Fate] = {
    "num_processes": To("hardware.count"),
    **together("deepspeed_config fsdp_config distributed_type"),
    **unjudged("num_machines", "memory", harmless=(1, None)),
    **unjudged("use_cpu dynamo_config megatron_lm_config parallelism_config fp8_config tp_config", "memory"),
    **idle(
        "compute_environment debug downcast_bf16 machine_rank main_training_function mixed_precision rdzv_backend "
        "same_network tpu_env tpu_use_cluster tpu_use_sudo gpu_ids main_process_ip main_process_port "
        "enable_cpu_affinity tpu_name tpu_zone"
    ),
}
_ACCELERATES_DEEPSPEED: Mapping[str, Fate] = {
    "zero_stage": To("training.zero_optimization.stage"),
    "offload_optimizer_device": To("training.zero_optimization.offload_optimizer.device"),
    "offload_param_device": To("training.zero_optimization.offload_param.device"),
    **together("deepspeed_config_file"),
    **idle(
        "deepspeed_multinode_launcher gradient_accumulation_steps gradient_clipping zero3_init_flag "
        "zero3_save_16bit_model deepspeed_hostfile deepspeed_exclusion_filter deepspeed_inclusion_filter"
    ),
}
_STRATEGIES = {
    "FULL_SHARD": "full_shard",
    "SHARD_GRAD_OP": "shard_grad_op",
    "NO_SHARD": "no_shard",
    "HYBRID_SHARD": "hybrid_shard",
    "HYBRID_SHARD_ZERO2": "hybrid_shard_zero2",
}
"""accelerate/utils/constants.py, FSDP_SHARDING_STRATEGY; a config may hold their number, from 1."""


def settle_sharding(draft: Draft) -> None:
    """Read what `deepspeed`, `fsdp`, `fsdp_config` and `accelerate_config` hold or name."""
    if followed(draft, "accelerate_config"):
        _accelerate(draft, "accelerate_config")
    if followed(draft, "deepspeed"):
        _deepspeed(draft, "deepspeed")
    if draft.value("fsdp"):
        value = draft.value("fsdp")
        draft.put("training.fsdp", " ".join(map(str, value)) if isinstance(value, list) else value, "fsdp")
    if followed(draft, "fsdp_config"):
        draft.read(_FSDP, prefix="fsdp_config.")


def followed(draft: Draft, key: str) -> bool:
    """Whether a key holds a mapping, or names a file that does; its keys then stand below it, at their own places."""
    value = draft.value(key)
    if isinstance(value, dict):
        return True
    if not value:
        return False
    found = _found(value, draft.folder)
    if found is None:
        draft.doubt(key, "memory", message=f"{quoted(value)} is not here, so it was not read")
        return False
    document, sources = read_yaml(found)
    draft.hold(key, document, sources)
    return True


def _found(value: Json, folder: Path) -> Path | None:
    """A file that a config names: relative to the config, or to where the command runs."""
    if not isinstance(value, str):
        return None
    try:
        places = (folder / Path(value).expanduser(), Path(value).expanduser())
        return next((path for path in places if path.is_file()), None)
    except (OSError, RuntimeError, ValueError):  # no such user, longer than the file system's names
        return None


def _deepspeed(draft: Draft, key: str) -> None:
    draft.read(_DEEPSPEED, prefix=f"{key}.")
    zero = f"{key}.zero_optimization"
    if draft.mapping(zero) is None:
        return
    draft.read(_ZERO, prefix=f"{zero}.")
    for part in ("offload_optimizer", "offload_param"):
        device = draft.value(f"{zero}.{part}.device")
        if device not in (None, "none"):
            draft.put(f"training.zero_optimization.{part}.device", device, f"{zero}.{part}.device")


def _accelerate(draft: Draft, key: str) -> None:
    kind = draft.value(f"{key}.distributed_type")
    counted = draft.value("num_processes") is not None or kind == "NO"  # told nearer, or of no effect
    draft.read({**_ACCELERATE, **(idle("num_processes") if counted else {})}, prefix=f"{key}.")
    if kind == "DEEPSPEED" and draft.mapping(f"{key}.deepspeed_config") is not None:
        draft.read(_ACCELERATES_DEEPSPEED, prefix=f"{key}.deepspeed_config.")
        zero = draft.document.get("training", {}).get("zero_optimization", {})
        for part in ("offload_optimizer", "offload_param"):
            if zero.get(part, {}).get("device") == "none":
                del zero[part]
        if followed(draft, f"{key}.deepspeed_config.deepspeed_config_file"):
            _deepspeed(draft, f"{key}.deepspeed_config.deepspeed_config_file")
    elif kind == "FSDP" and draft.mapping(f"{key}.fsdp_config") is not None:
        _fsdp(draft, f"{key}.fsdp_config")
    elif kind not in (None, "NO", "MULTI_GPU", "DEEPSPEED", "FSDP"):
        draft.doubt(f"{key}.distributed_type", "memory")


def _fsdp(draft: Draft, key: str) -> None:
    """FSDP as accelerate has it: its keys begin with `fsdp_`, and it shards fully unless told otherwise."""
    draft.read({f"fsdp_{name}": fate for name, fate in _FSDP.items()}, prefix=f"{key}.")
    strategy = draft.value(f"{key}.fsdp_sharding_strategy")
    if isinstance(strategy, int) and 1 <= strategy <= len(_STRATEGIES):
        strategy = list(_STRATEGIES)[strategy - 1]
    reshards = draft.value(f"{key}.fsdp_reshard_after_forward")
    if strategy is None:
        strategy = "SHARD_GRAD_OP" if reshards is False else reshards if isinstance(reshards, str) else None
    named = _STRATEGIES.get(str(strategy or "FULL_SHARD"))
    if named is None:
        draft.doubt(f"{key}.fsdp_sharding_strategy", "memory")
    else:
        draft.put("training.fsdp", f"{named} auto_wrap", key)
