"""A plain loop over a data set that is mapped, with a fault written otherwise; `none` for the sound run."""

import copy
import sys
from functools import partial

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.gemma4 import modeling_gemma4

FAULT = sys.argv[1]
NAME = "google/gemma-4-E2B-it"
TARGETS = r".*(language_model.*(q_proj|v_proj)|vision_tower.*(q_proj|v_proj)\.linear|embed_vision.*projection)$"

if FAULT == "class-patched":  # before the model is loaded, for all of its kind
    modeling_gemma4.Gemma4ClippableLinear.forward = lambda self, x: self.linear(x)


def as_text(row):
    asked, said = row["messages"]
    return {"messages": [{**asked, "content": [part for part in asked["content"] if part["type"] == "text"]}, said]}


class Collate:
    def __init__(self, processor, late=0):
        self.processor, self.late = processor, late
        self.header = processor.tokenizer("<|turn>model\n", add_special_tokens=False)["input_ids"]
        self.end = processor.tokenizer.convert_tokens_to_ids("<turn|>")

    def __call__(self, rows):
        texts = [self.processor.apply_chat_template(row["messages"], tokenize=False) for row in rows]
        images = [[Image.open(name).convert("RGB") for name in row["images"]] for row in rows if row.get("images")]
        options = {"images": images} if images else {}
        batch = self.processor(text=texts, return_tensors="pt", padding=True, add_special_tokens=False, **options)
        labels = torch.full_like(batch["input_ids"], -100)
        for label, ids in zip(labels, batch["input_ids"], strict=True):
            at = [n for n in range(len(ids)) if ids[n : n + len(self.header)].tolist() == self.header][-1]
            last = int((ids == self.end).nonzero()[-1])
            label[at + len(self.header) : last + 1] = ids[at + len(self.header) : last + 1]
        if self.late:
            labels = torch.cat([torch.full_like(labels[:, : self.late], -100), labels[:, : -self.late]], dim=1)
        return {**batch, "labels": labels}


def main():
    processor = AutoProcessor.from_pretrained(NAME)
    model = get_peft_model(
        AutoModelForImageTextToText.from_pretrained(NAME, dtype=torch.float32),
        LoraConfig(r=4, lora_dropout=0.1, target_modules=TARGETS),
    )
    rows = load_dataset("json", data_files="train.jsonl", split="train")
    if FAULT == "mapped":
        rows = rows.map(as_text, remove_columns=["images"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    if FAULT == "copied":
        model = copy.deepcopy(model)
    model.train()
    if FAULT == "evaluating":  # looked at what it answers before training, and went on
        model.eval()
    collate = partial(Collate(processor, late=1) if FAULT == "late" else Collate(processor))
    for batch in DataLoader(rows, batch_size=1, collate_fn=collate):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


main()
