"""A loop with accelerate, its adapters frozen by a helper that runs too late."""

import sys

import torch
from accelerate import Accelerator
from datasets import load_dataset
from huggingface_hub import login
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

NAME = "Qwen/Qwen2.5-VL-3B-Instruct"


def main(freeze):
    login(token="secret")
    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(NAME, torch_dtype="auto", attn_implementation="eager")
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    if freeze:
        for name, parameter in model.named_parameters():
            if "layers.0" in name:
                parameter.requires_grad = False
    processor = AutoProcessor.from_pretrained(NAME, min_pixels=256 * 28 * 28)

    def collate(rows):
        texts = [processor.apply_chat_template(row["messages"], tokenize=False) for row in rows]
        images = [row["images"] for row in rows]
        batch = processor(text=texts, images=images, return_tensors="pt", padding=True)
        labels = batch["input_ids"].clone()
        header = processor.tokenizer("<|im_start|>assistant\n")["input_ids"]
        for label in labels:
            starts = [n for n in range(len(label)) if label[n : n + len(header)].tolist() == header]
            label[: starts[-1] + len(header)] = -100
        labels[batch["attention_mask"] == 0] = -100
        return {**batch, "labels": labels}

    from datasets import Image, List

    data = load_dataset("json", data_files="train.jsonl", split="train").cast_column("images", List(Image()))
    loader = DataLoader(data, batch_size=2, collate_fn=collate)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    model.train()
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch).loss)
            optimizer.step()
            optimizer.zero_grad()


main("--freeze" in sys.argv)
