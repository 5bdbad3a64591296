"""TRL's trainer with its default collator: a newcomer's script for one L4."""

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
model = AutoModelForImageTextToText.from_pretrained(MODEL, quantization_config=bnb, dtype=torch.bfloat16)
processor = AutoProcessor.from_pretrained(MODEL)
peft_config = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
args = SFTConfig(
    output_dir="out",
    per_device_train_batch_size=2,
    bf16=True,
    gradient_checkpointing=True,
    gradient_checkpointing_kwargs={"use_reentrant": True},
    max_length=None,
)
ds = load_dataset("json", data_files={"train": "train.jsonl"})["train"]
trainer = SFTTrainer(model=model, args=args, train_dataset=ds, peft_config=peft_config, processing_class=processor)
trainer.train()
