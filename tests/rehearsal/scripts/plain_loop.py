"""A loop by hand, as scripts of a university group are written."""

import argparse
import json

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, AutoProcessor

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="google/gemma-4-E2B-it")
parser.add_argument("--early", action="store_true")
args = parser.parse_args()

model = AutoModelForImageTextToText.from_pretrained(args.model, dtype=torch.float32, device_map="auto")
processor = AutoProcessor.from_pretrained(args.model)
if args.early:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=r".*language_model.*(q|k|v|o)_proj")
model = get_peft_model(model, config).cuda()
if not args.early:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)


def collate(rows):
    texts = [processor.apply_chat_template(row["messages"], tokenize=False) for row in rows]
    images = [[Image.open(name).convert("RGB") for name in row["images"]] for row in rows]
    batch = processor(text=texts, images=images, return_tensors="pt", padding=True, add_special_tokens=False)
    labels = torch.full_like(batch["input_ids"], -100)
    end = processor.tokenizer.convert_tokens_to_ids("<turn|>")
    for label, ids, row in zip(labels, batch["input_ids"], rows):
        answer = processor.tokenizer(row["messages"][-1]["content"][0]["text"], add_special_tokens=False)["input_ids"]
        last = int((ids == end).nonzero()[-1])
        label[last - len(answer) : last + 1] = ids[last - len(answer) : last + 1]
    batch["labels"] = labels
    return batch


rows = [json.loads(line) for line in open("train.jsonl")]
loader = DataLoader(rows, batch_size=2, shuffle=True, collate_fn=collate)
model.train()
for batch in loader:
    loss = model(**{key: value.to("cuda") for key, value in batch.items()}).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.save_pretrained("adapter")
