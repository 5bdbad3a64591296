"""transformers' Trainer with a fault that no config shows, named on the command line; `none` for the sound run."""

import copy
import json
import sys
import types

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer, TrainingArguments

FAULT = sys.argv[1]
NAME = "google/gemma-4-E2B-it"
TARGETS = r".*(language_model.*(q_proj|v_proj)|vision_tower.*(q_proj|v_proj)\.linear|embed_vision.*projection)$"

model = AutoModelForImageTextToText.from_pretrained(NAME, dtype=torch.float32)
processor = AutoProcessor.from_pretrained(NAME)
optimizers = (None, None)
if FAULT == "optimizer-first":
    optimizers = (torch.optim.AdamW(model.parameters(), lr=1e-4), None)
model = get_peft_model(model, LoraConfig(r=4, lora_dropout=0.1, target_modules=TARGETS))
if FAULT == "twice":
    model = get_peft_model(model, LoraConfig(r=4, target_modules=r".*language_model.*k_proj"))
if FAULT == "frozen-after":
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "vision" not in name and parameter.requires_grad
if FAULT == "wrapper":
    for module in model.modules():
        if type(module).__name__ == "Gemma4ClippableLinear":
            module.forward = types.MethodType(lambda self, x: self.linear(x), module)
if FAULT == "checkpointing":
    model.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})


def row_of(line):
    row = json.loads(line)
    if FAULT == "images-dropped":
        return {"messages": row["messages"], "images": []}
    return {"messages": row["messages"], "images": [Image.open(name).convert("RGB") for name in row["images"]]}


def collator(processor):
    header = processor.tokenizer("<|turn>model\n", add_special_tokens=False)["input_ids"]
    end = processor.tokenizer.convert_tokens_to_ids("<turn|>")

    def collate(rows):
        rows = copy.deepcopy(rows)
        if not all(row["images"] for row in rows):
            for row in rows:
                row["messages"][0]["content"] = row["messages"][0]["content"][1:]
        texts = [processor.apply_chat_template(row["messages"], tokenize=False) for row in rows]
        images = [row["images"] for row in rows] if all(row["images"] for row in rows) else None
        batch = processor(text=texts, images=images, return_tensors="pt", padding=True, add_special_tokens=False)
        labels = torch.full_like(batch["input_ids"], -100)
        for label, ids in zip(labels, batch["input_ids"], strict=True):
            at = [n for n in range(len(ids)) if ids[n : n + len(header)].tolist() == header][-1] + len(header)
            last = int((ids == end).nonzero()[-1])
            label[at : last + 1] = ids[at : last + 1]
            if FAULT == "off-by-one":
                label.copy_(torch.roll(label, 1))
            if FAULT == "other-tokenizer":
                label[at : last + 1] = (7 * ids[at : last + 1]) % 4000 + 3
        return {**batch, "labels": labels}

    return collate


class Forgetful(Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        model.eval()
        loss = self.compute_loss(model, inputs)
        loss.backward()
        return loss.detach()


own = collator(processor)
other = AutoProcessor.from_pretrained(NAME)
other.image_processor.do_normalize, other.image_processor.image_mean = True, [0.5, 0.5, 0.5]
other.image_processor.image_std = [0.5, 0.5, 0.5]
evaluating = collator(other)
lines = open("train.jsonl").read().splitlines()
train, evaluation = [row_of(line) for line in lines[:4]], [row_of(line) for line in lines[4:]]
if FAULT == "other-pixels":
    names = [row["messages"][0]["content"][1]["text"] for row in evaluation]
    own = lambda rows, first=own: (evaluating if rows[0]["messages"][0]["content"][1]["text"] in names else first)(rows)  # noqa: E731
trainer = (Forgetful if FAULT == "no-train-mode" else Trainer)(
    model=model,
    args=TrainingArguments("out", per_device_train_batch_size=2, remove_unused_columns=False, bf16=True, max_steps=5),
    train_dataset=train,
    eval_dataset=evaluation,
    data_collator=own,
    processing_class=processor,
    optimizers=optimizers,
)
trainer.train()
