"""A working folder that holds what the scripts of fixtures/scripts/ load, under the names that they load it by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset

from tests.integrations import live_samples as live

QWEN_DATA = '''
"""What lies beside the official script: rows, and a collator of answers alone."""

import json

import torch
from PIL import Image


def make_supervised_data_module(processor, data_args):
    rows = [json.loads(line) for line in open(data_args.dataset_use)]

    def collate(rows):
        texts = [processor.apply_chat_template(row["messages"], tokenize=False) for row in rows]
        images = [[Image.open(name).convert("RGB") for name in row["images"]] for row in rows]
        batch = processor(text=texts, images=images, return_tensors="pt", padding=True)
        labels = torch.full_like(batch["input_ids"], -100)
        header = processor.tokenizer("<|im_start|>assistant\\n")["input_ids"]
        end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
        for label, ids in zip(labels, batch["input_ids"]):
            starts = [n for n in range(len(ids)) if ids[n : n + len(header)].tolist() == header]
            first, last = starts[-1] + len(header), int((ids == end).nonzero()[-1])
            label[first : last + 1] = ids[first : last + 1]
        return {**batch, "labels": labels}

    return {"train_dataset": rows, "data_collator": collate}
'''


def working_folder(folder: Path) -> Path:
    """Data sets as folders of parquet, where the Hub's names lead to; rows of one question about one picture each."""
    rows = live.rows(6)
    (folder / "img").mkdir()
    lines = []
    for number, row in enumerate(rows):
        row["images"][0].save(folder / "img" / f"{number}.png")
        lines.append(json.dumps({"messages": row["messages"], "images": [f"img/{number}.png"]}))
    (folder / "train.jsonl").write_text("\n".join(lines))
    (folder / "limits.json").write_text('{"max_length": 1024}')
    (folder / "rows.csv").write_text("text\nWhat is it?\nA cat.\nWhat else?\nA dog.")
    (folder / "qwenvl" / "data").mkdir(parents=True)
    (folder / "qwenvl" / "data" / "data_processor.py").write_text(QWEN_DATA)
    tables: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "merve/vqav2-small": question,
        "HuggingFaceM4/VQAv2": lambda row: question(row) | dict.fromkeys(UNUSED, "x"),
        "HuggingFaceM4/ChartQA": lambda row: {"image": row["images"][0], "query": "?", "label": ["A cat"]},
        "trl-lib/llava-instruct-mix": split,
        "FanqingM/MMIU-Benchmark": benchmark,
        "philschmid/amazon-product-descriptions-vlm": product,
    }
    for name, made in tables.items():
        kept = Dataset.from_list([made(row) for row in rows])
        for part in ("train", "validation", "val", "test"):
            kept.to_parquet(folder / name / "data" / f"{part}-00000-of-00001.parquet")
    pets = [
        {"image": row["images"][0], "messages": row["messages"], "text": "?", "caption": "x", "label": number % 2}
        for number, row in enumerate(rows)
    ]
    breeds = Dataset.from_list(pets).cast_column("label", ClassLabel(names=["Beagle", "Bengal"]))
    for part in ("train", "test"):
        breeds.to_parquet(folder / "timm/oxford-iiit-pet" / "data" / f"{part}-00000-of-00001.parquet")
    return folder


UNUSED = ("question_type", "answers", "answer_type", "image_id", "question_id")


def question(row: dict[str, Any]) -> dict[str, Any]:
    """As VQAv2 holds it, with the conversation beside it."""
    answer = row["messages"][1]["content"][0]["text"]
    return {"image": row["images"][0], "question": "What is it?", "multiple_choice_answer": answer}


def split(row: dict[str, Any]) -> dict[str, Any]:
    """Prompt and completion."""
    return {"images": row["images"], "prompt": row["messages"][:1], "completion": row["messages"][1:]}


def benchmark(row: dict[str, Any]) -> dict[str, Any]:
    """Parts of a message in a column, the image as bytes."""
    from io import BytesIO

    buffer = BytesIO()
    row["images"][0].save(buffer, "PNG")
    asked = [{"type": "image", "image": {"bytes": buffer.getvalue()}, "text": None},
             {"type": "text", "image": None, "text": "What?"}]  # fmt: skip
    return {"question": asked, "output": [{"type": "text", "image": None, "text": "A cat"}]}


def product(row: dict[str, Any]) -> dict[str, Any]:
    return {"image": row["images"][0], "description": "A red mug."}
