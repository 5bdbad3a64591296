"""Where a key that a section does not have may have come from, and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence

from vlcheck.config.reading.quoting import closest, named
from vlcheck.config.validation.allowed import at, keys, sections

# Keys of TrainingArguments, TRL's SFTConfig, LoraConfig, BitsAndBytesConfig and common trainers that were
# renamed or removed, or that have another name here.
_INSTEAD = {
    "training.warmup_ratio": "removed in transformers 5; write warmup_steps with a value below 1",
    "training.evaluation_strategy": "renamed eval_strategy in transformers; vlcheck uses neither, leave it out",
    "training.eval_strategy": "vlcheck does not use it, leave it out",
    "training.batch_size": "write per_device_train_batch_size",
    "training.train_batch_size": "write per_device_train_batch_size",
    "training.per_gpu_train_batch_size": "removed from transformers; write per_device_train_batch_size",
    "training.lr": "write learning_rate",
    "training.epochs": "write num_train_epochs",
    "training.num_epochs": "write num_train_epochs",
    "training.lr_scheduler": "write lr_scheduler_type",
    "training.scheduler": "write lr_scheduler_type",
    "training.optimizer": "write optim",
    "training.activation_checkpointing": "write gradient_checkpointing, the older name of the same switch",
    "training.activation_checkpointing_kwargs": "write gradient_checkpointing_kwargs, the older name",
    "training.use_reentrant": "write gradient_checkpointing_kwargs: {use_reentrant: false}",
    "training.max_seq_length": "renamed max_length in TRL; write data.max_length",
    "training.max_seq_len": "write data.max_length",
    "data.max_seq_length": "renamed max_length in TRL; write max_length",
    "data.max_seq_len": "write max_length",
    "data.dataset_name": "write dataset",
    "data.dataset_path": "write path",
    "data.name": "write dataset",
    "data.split": "write train_split",
    "data.prompt": "write instruction",
    "model.max_seq_length": "write data.max_length",
    "model.name": "write id",
    "model.path": "write id",
    "model.model_id": "write id",
    "model.model_name": "write id",
    "model.model_name_or_path": "write id",
    "model.base_model": "write id",
    "model.torch_dtype": "renamed dtype in transformers 5; write dtype",
    "model.use_flash_attention_2": "removed from transformers; write attn_implementation: flash_attention_2",
    "model.attention": "write attn_implementation",
    "model.device_map": "vlcheck does not use it, leave it out",
    "model.trust_remote_code": "vlcheck runs no code from the Hub, leave it out",
    "quantization.bits": "write load_in_4bit: true or load_in_8bit: true",
    "quantization.load_in_4_bit": "write load_in_4bit",
    "quantization.load_in_8_bit": "write load_in_8bit",
    "quantization.quant_type": "write bnb_4bit_quant_type",
    "quantization.compute_dtype": "write bnb_4bit_compute_dtype",
    "quantization.double_quant": "write bnb_4bit_use_double_quant",
    "quantization.use_double_quant": "write bnb_4bit_use_double_quant",
    "quantization.quant_storage": "write bnb_4bit_quant_storage",
    "quantization.quant_method": "leave it out, the section is bitsandbytes'",
    "lora.lora_r": "write r",
    "lora.rank": "write r",
    "lora.lora_rank": "write r",
    "lora.alpha": "write lora_alpha",
    "lora.dropout": "write lora_dropout",
    "lora.lora_bias": "vlcheck does not use it; bias says which biases train",
    "lora.peft_type": "leave it out, the section is LoRA's",
    "lora.rslora": "write use_rslora",
    "lora.dora": "write use_dora",
    "lora.modules": "write target_modules",
    "lora.lora_target_modules": "write target_modules",
    "hardware.gpus": "write count",
    "hardware.num_gpus": "write count",
    "hardware.gpu_count": "write count",
    "launch.timeout": "write timeout_seconds",
    "launch.retries": "write max_retries",
    "launch.memory": "write memory_gib",
    "intent.vision_tower": "write vision",
    "intent.language_model": "write language",
    "intent.text": "write language",
    "peft": "the section is called lora",
    "qlora": "write the sections lora and quantization",
    "bnb": "the section is called quantization",
    "bitsandbytes": "the section is called quantization",
    "train": "the section is called training",
    "trainer": "the section is called training",
    "dataset": "the section is called data; the key dataset belongs in it",
}


def advice(path: Sequence[str | int]) -> str:
    """Say what to write in place of an unknown key, or which keys its section has."""
    *parents, last = path
    key = str(last)
    known = tuple(keys(at(parents))) if parents else tuple(sections())
    instead = _INSTEAD.get(".".join(map(str, path)))
    if instead is not None:
        return instead
    homes = [section for section, hint in sections().items() if key in keys(hint)]
    if homes:
        return f"it belongs in section {' or '.join(homes)}"
    if parents and key in sections():
        return "it is a section of its own, at the top level"
    if "." in key and at(key.split(".")) is not None:
        return "write it as nested keys, without the dot"
    near = closest(key, known)
    if near is not None:
        return f"did you mean {near}?"
    return _elsewhere(key) or f"allowed: {', '.join(known)}" + ("" if parents else " (sections)")


def _elsewhere(key: str) -> str | None:
    for section, hint in sections().items():
        near = closest(key, keys(hint))
        if near is not None:
            return f"did you mean {named([section, near])}?"
    return None
