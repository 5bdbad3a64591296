"""Steps of vlcheck's loop, readable and compiled, beside TRL's, on one GPU: one JSON line a side and micro-batch.

    python -m tests.benchmarks.trainer OUT.jsonl MODEL [--sides readable,compiled,trl] [--rows 4,8,16] [--steps 5]
        [--tokens 512[,448,...]] [--soft-tokens 256] [--rank 64] [--dropout 0] [--share 1]
        [--seconds N] [--gradients]

`--share` is that of checkpointed layers; TRL has no such setting, and checkpoints all. A side `trl-compile` is TRL with
transformers' `torch_compile`.

Every side gets the same random weights, LoRA matrices and prebuilt batch. The first step is warm-up and not counted; a
compiled side compiles in it. Several lengths take turns, each once before what is counted. `--gradients` keeps the
first step's norms by part (TRL's are of clipped gradients) and a sample of each gradient.
Resumable: a line that is there is not measured again.
"""

from __future__ import annotations

import argparse
import functools
import gc
import itertools
import json
import math
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.gpu.measure_runs import environment
from tests.gpu.runs import Run
from vlcheck.memory.batch import make_batch
from vlcheck.memory.measure import free_managed
from vlcheck.memory.probe import flops_of
from vlcheck.model import catalogue
from vlcheck.model.build import Weights, base_of, build_model
from vlcheck.model.families import family_of
from vlcheck.model.quantising import quantization_config
from vlcheck.processing.collator import to_device
from vlcheck.training.compiled import compile_layers
from vlcheck.training.settings import settings_of
from vlcheck.training.step import autocast, finish, make_optimizer, micro_step, prepare, trainable

TOLD = ("name", "error", "images_per_second", "peak_gib", "seconds", "losses")
SAMPLE = 4096
"""Values of each gradient that are kept, spread over it."""
PEAK = 989e12
"""Dense bf16 FLOP/s of an H100 SXM, by NVIDIA's data sheet."""


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("model")
    arguments.add_argument("--sides", default="readable,compiled,trl")
    arguments.add_argument("--rows", default="8")
    arguments.add_argument("--steps", type=int, default=5)
    arguments.add_argument("--tokens", default="512")
    arguments.add_argument("--soft-tokens", type=int, default=256)
    arguments.add_argument("--rank", type=int, default=64)
    arguments.add_argument("--dropout", type=float, default=0.0)
    arguments.add_argument("--share", type=float, default=1.0)
    arguments.add_argument("--seconds", type=float, default=500)
    arguments.add_argument("--gradients", action="store_true")
    arguments.add_argument("--device", default="cuda")
    given = arguments.parse_args()
    deadline = time.monotonic() + given.seconds
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    done = {json.loads(line)["name"] for line in lines}
    sides = given.sides.split(",")
    if len(sides) > 1:  # each in a process of its own: a Trainer leaves the embeddings of its model on the card
        for side in sides:
            left = str(max(1.0, deadline - time.monotonic()))
            subprocess.run([sys.executable, "-m", __spec__.name, *sys.argv[1:], "--sides", side, "--seconds", left],
                           check=False)  # fmt: skip
        return
    (side,) = sides
    model = None
    lengths = [int(each) for each in given.tokens.split(",")]
    for rows in map(int, given.rows.split(",")):
        run = Run(given.model, rows=rows, tokens=max(lengths), soft_tokens=given.soft_tokens, rank=given.rank,
                  dropout=given.dropout, steps=given.steps, share=given.share)  # fmt: skip
        name = f"{side} {run.name} x{given.steps}" + f" of {given.tokens}" * (len(lengths) > 1)
        if name in done or time.monotonic() > deadline:
            continue
        row = {"name": name, "side": side, "rows": rows, "tokens": lengths, "steps": given.steps,
               "dropout": given.dropout, "rank": given.rank, "share": given.share, **environment()}  # fmt: skip
        try:
            torch._dynamo.reset()  # graphs of another micro-batch would be made for any size
            if model is not None:
                fresh(model)
            else:
                model = built(run, given.device)
                if side == "compiled":
                    compile_layers(model)
            row |= measured(model, run, side, lengths, gradients=given.gradients, device=given.device)
        except torch.OutOfMemoryError as full:
            row["error"] = f"out of memory: {' '.join(str(full).split())[:160]}"
        except Exception as error:  # a side that fails is a result, and the others go on
            row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        with given.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps({k: row.get(k) for k in TOLD}), flush=True)
        settle()


def built(run: Run, device: str) -> Any:
    """The run's model in the state in which it trains; the same numbers each time."""
    torch.manual_seed(7)
    config = catalogue.lookup(run.model).config
    model = build_model(run.spec(), Weights.RANDOM, config=config, device=device, seed=7)
    prepare(model, settings_of(run.spec()))
    return fresh(model)


def fresh(model: Any) -> Any:
    """LoRA matrices as at the start, of the same numbers; B is not zero, or A would get no gradient.

    What a layer adds to the stream is made a hundredth where a norm scales it: a deep model with random weights is
    chaotic otherwise (gradient norms of a million), and rounding alone makes two equal runs part at once.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and "post_" in name and "norm" in name:
            parameter.data.fill_(0.01)
    generator = torch.Generator().manual_seed(11)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = 1e-3 if "lora_B" in name else 1 / math.sqrt(parameter.shape[-1])
            drawn = torch.randn(parameter.shape, generator=generator) * scale
            parameter.data.copy_(drawn)
    return model


def measured(model: Any, run: Run, side: str, lengths: list[int], *, gradients: bool, device: str) -> dict[str, Any]:
    """Seconds and losses of each step, the peak, and what follows from them."""
    config = catalogue.lookup(run.model).config
    family = family_of(config)
    values = base_of(model).config.to_dict()
    batches = [to_device(make_batch(family, values, replace(run, tokens=n).shape()), device) for n in lengths]
    settle()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    kept: dict[str, Any] = {}
    note = functools.partial(note_gradients, model, family, kept) if gradients else None
    seconds, losses = (
        functools.partial(trl_steps, compiled=side == "trl-compile") if side.startswith("trl") else own_steps
    )(model, run, batches, note, device)
    counted = seconds[len(lengths) :]
    step = statistics.median(counted)
    flops = flops_of(model, family, run.shape())
    found = {
        "seconds": [round(s, 4) for s in seconds], "losses": losses, "step_seconds": step,
        "spread": (max(counted) - min(counted)) / step, "images_per_second": run.rows / step,
        "tokens_per_second": run.rows * statistics.median(lengths) / step, "utilisation": flops / step / PEAK, **kept,
    }  # fmt: skip
    if device == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def own_steps(model: Any, run: Run, batches: Any, note: Any, device: str) -> tuple[list[float], list[float]]:
    """Optimizer steps as vlcheck's loop takes them."""
    settings = settings_of(run.spec())
    parameters = trainable(model)
    optimizer = make_optimizer(parameters, settings)
    context = functools.partial(autocast, settings.precision, device)
    seconds, losses = [], []
    for number in range(run.steps):
        start = clock(device)
        loss = micro_step(
            model, batches[number % len(batches)], supervised_only=settings.supervised_only, context=context
        )
        if note is not None and not number:
            note()
        finish(parameters, optimizer, settings.max_grad_norm)
        seconds.append(clock(device) - start)
        losses.append(float(loss))
    optimizer.state.clear()
    free_managed(optimizer)
    return seconds, losses


def trl_steps(
    model: Any, run: Run, batches: Any, note: Any, device: str, *, compiled: bool = False
) -> tuple[list[float], list[float]]:
    """Optimizer steps of TRL's `SFTTrainer` with its fused head and the same settings."""
    import datasets
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from trl import SFTConfig, SFTTrainer

    quantization = run.spec().quantization
    if quantization is not None:  # `from_pretrained` leaves it on the model, and transformers' Trainer asks it
        quantiser = transformers.quantizers.AutoHfQuantizer.from_config(quantization_config(quantization))
        base_of(model).hf_quantizer = quantiser
    settings = settings_of(run.spec())
    words = {"<pad>": 0, "<eos>": 1, "<bos>": 2}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")), pad_token="<pad>", eos_token="<eos>",
        bos_token="<bos>",
    )  # fmt: skip
    taken = itertools.cycle(batches)
    seconds: list[float] = []
    losses: list[float] = []
    begun = [0.0]

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            begun[0] = clock(device)

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            if note is not None and not seconds:
                note()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(clock(device) - begun[0])

        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            if logs and "loss" in logs:
                losses.append(float(logs["loss"]))

    config = SFTConfig(
        output_dir="/tmp/trl", per_device_train_batch_size=run.rows, max_steps=run.steps, bf16=device == "cuda",
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}, optim=settings.optimizer,
        learning_rate=settings.learning_rate, lr_scheduler_type="constant", max_grad_norm=settings.max_grad_norm,
        weight_decay=settings.weight_decay, logging_steps=1, save_strategy="no", report_to="none", max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False, disable_tqdm=True,
        use_cpu=device != "cuda", torch_compile=compiled, logging_nan_inf_filter=False, dataloader_pin_memory=False,
    )  # fmt: skip
    rows = datasets.Dataset.from_dict({"row": list(range(run.rows * run.steps))})
    trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer,
                         data_collator=lambda _: dict(next(taken)), callbacks=[Clock()])  # fmt: skip
    trainer.train()
    free_managed(getattr(trainer.optimizer, "optimizer", trainer.optimizer))
    model.zero_grad(set_to_none=True)
    return seconds, losses


def note_gradients(model: Any, family: Any, kept: dict[str, Any]) -> None:
    """Norms by part before clipping, and a sample of each gradient's values."""
    squares: dict[str, float] = defaultdict(float)
    samples: dict[str, list[torch.Tensor]] = defaultdict(list)
    for name, parameter in base_of(model).named_parameters():
        if parameter.grad is None:
            continue
        part = str(family.part_of(name).value)
        flat = parameter.grad.detach().float().flatten()
        squares[part] += float(flat.square().sum())
        samples[part].append(flat[:: max(1, flat.numel() // 16)][:16].cpu())
    kept["gradient_norms"] = {part: math.sqrt(value) for part, value in squares.items()}
    kept["gradient_samples"] = {
        part: [float(f"{v:.6g}") for v in torch.cat(many)[:: max(1, 16 * len(many) // SAMPLE)][:SAMPLE].tolist()]
        for part, many in samples.items()
    }


def clock(device: str) -> float:
    """Seconds, once the GPU has nothing left to do."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def settle() -> None:
    """Give back what nothing holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
