"""Pre-train the stand-in's base: drawn animals, and what can be said of each; or profile a step of it.

    python -m tests.gpu.standin.pretrain OUT --seconds 200          the base, within a budget of seconds
    python -m tests.gpu.standin.pretrain OUT --steps 9000           the same number of steps again
    python -m tests.gpu.standin.pretrain OUT --seconds 130 --after OLD/base    a second stage, in which names are spelt
    python -m tests.gpu.standin.pretrain OUT --profile              what a step takes, by variant and by part
    python -m tests.gpu.standin.pretrain OUT --cpu --seconds 300    the smaller variant, on a CPU

Every picture is drawn for one step and never again. The forward pass is the model's own layer by layer, without what
makes the host wait for the card (boolean indices, lengths as Python numbers); `tests/gpu/test_standin.py` holds its
loss against that of `model(**batch)`.

Dimensions: N pictures, P patches, S soft tokens, T tokens of a row, A tokens of an answer, D width.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from tests.gpu.standin import base
from tests.gpu.standin.animals import NAMING, QUESTIONS, answer, other_names, patches
from vlcheck.data.conversation import Conversation, Picture, Turn
from vlcheck.data.drawn_animals import KINDS, breeds, scenes
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.versions import installed

SEED, HELD_OUT = 18, 1_000_003
SHARE_OF_CAPTIONS = 0.6
"""Of the questions; the others ask for one attribute."""
SHARE_OF_NAMES = 0.6
"""Of the questions of the second stage that ask for a name."""
TESTED = 512
"""Pictures that are held out for the accuracy of captions."""


# --------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Texts:
    """Every text of pre-training as ids: before the soft tokens all alike, behind them by row of a table."""

    before: torch.Tensor
    behind: torch.Tensor
    """(rows, tail) padded on the right."""
    asked: torch.Tensor
    """(rows,) ids of `behind` that are not supervised."""
    length: torch.Tensor
    """(rows,) ids of `behind` that are not padding."""
    row_of: torch.Tensor
    """(questions, kinds) which row asks this of that animal."""
    image: int
    pad: int
    answers: int
    """Supervised ids of the longest answer."""

    def to(self, device: str) -> Texts:
        """The same on a device."""
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in vars(self).items()}
        return Texts(**moved)


def texts_of(values: dict[str, Any]) -> Texts:
    """The texts as the run's own collator makes them, cut around the soft tokens of a picture."""
    family = family_of(values)
    assert family.dialogue is not None
    collator = Collator(base.processor_of(values), family.dialogue)
    picture = Picture(Image.new("RGB", (64, 64)), "none")
    told: dict[tuple[str, str], int] = {}
    row_of = torch.zeros(len(QUESTIONS) + 1, len(KINDS), dtype=torch.long)
    kept_back, names = set(breeds().values()), other_names(len(KINDS))
    for number, kind in enumerate(KINDS):
        for question, asked_ in enumerate(QUESTIONS):
            row_of[question, number] = told.setdefault((asked_, answer(question, kind)), len(told))
        named = (QUESTIONS[0], answer(0, kind)) if kind in kept_back else (NAMING, names[number])
        row_of[-1, number] = told.setdefault(named, len(told))
    rows = [
        Conversation((Turn("user", (picture, asked_)), Turn("assistant", (said,))), f"{asked_} {said}")
        for asked_, said in told
    ]
    batch = collator(rows)
    soft, pad = int(values["image_token_id"]), int(collator.processor.tokenizer.pad_token_id)
    ids, labels, own = batch["input_ids"], batch["labels"], batch["attention_mask"]
    where = (ids[0] == soft).nonzero().flatten()
    first, stop = int(where[0]), int(where[-1]) + 1
    behind, length = ids[:, stop:], own[:, stop:].sum(1)
    asked = (labels[:, stop:] != IGNORE_INDEX).int().argmax(1)
    behind = behind.where(own[:, stop:] > 0, pad)
    return Texts(ids[0, :first], behind, asked, length, row_of, soft, pad, int((length - asked).max()))


def drawn(
    count: int, generator: torch.Generator, captions: float = SHARE_OF_CAPTIONS, names: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes of random animals and the question that each is asked with, `question * len(KINDS) + kind`.

    Args:
        captions: share of those who are described whole, of those who are not asked for a name.
        names: share of those who are asked for a name; of breeds a description is asked instead.
    """
    kinds = torch.randint(len(KINDS), (count,), generator=generator)
    question = torch.randint(1, len(QUESTIONS), (count,), generator=generator)
    question = question.where(torch.rand(count, generator=generator) >= captions, 0)
    if names:
        question = question.where(torch.rand(count, generator=generator) >= names, len(QUESTIONS))
    return scenes(torch.tensor(KINDS)[kinds], generator), question * len(KINDS) + kinds


# --------------------------------------------------------------------------- forward


def soft_tokens(model: Any, pixels: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the tower makes of pictures, padded: (N, S, D) and how many of S each has."""
    tower, padding = model.model.vision_tower, (places == -1).all(-1)
    hidden = tower.patch_embedder(pixels, places, padding)
    seen = (~padding)[:, None, None, :].expand(-1, 1, padding.shape[1], -1)
    hidden = tower.encoder(inputs_embeds=hidden, attention_mask=seen, pixel_position_ids=places).last_hidden_state
    length = places.shape[1] // base.POOL**2
    pooled, _ = tower.pooler(
        hidden_states=hidden, pixel_position_ids=places, padding_positions=padding, output_length=length
    )
    return model.model.embed_vision(inputs_embeds=pooled.to(hidden.dtype)), (~padding).sum(1) // base.POOL**2


def loss_and_right(
    model: Any, texts: Texts, pixels: torch.Tensor, places: torch.Tensor, asked_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss over the supervised ids, and which rows have every one of them right, (N,)."""
    soft_NSD, count_N = soft_tokens(model, pixels, places)
    rows_N = texts.row_of.flatten()[asked_N]
    behind, asked, length = texts.behind[rows_N], texts.asked[rows_N], texts.length[rows_N]
    first, tail = len(texts.before), behind.shape[1]
    total = first + soft_NSD.shape[1] + tail
    at_T = torch.arange(total, device=pixels.device)[None]
    stop_N1 = first + count_N[:, None]
    is_soft_NT = (at_T >= first) & (at_T < stop_N1)
    own_NT = at_T < stop_N1 + length[:, None]
    ids_NT = torch.where(
        at_T < first, texts.before[at_T.clamp(max=first - 1)],
        behind.gather(1, (at_T - stop_N1).clamp(0, tail - 1)),
    ).masked_fill(is_soft_NT | ~own_NT, texts.pad)  # fmt: skip
    hidden = model.model.language_model.embed_tokens(ids_NT)
    slot = (at_T - first).clamp(0, soft_NSD.shape[1] - 1).expand(len(rows_N), -1)
    placed = soft_NSD.gather(1, slot[..., None].expand(-1, -1, soft_NSD.shape[2]))
    hidden = torch.where(is_soft_NT[..., None], placed, hidden)

    causal = (at_T[0][:, None] >= at_T[0][None, :])[None]
    both_ways = is_soft_NT[:, :, None] & is_soft_NT[:, None, :]
    full = (causal & own_NT[:, None, :])[:, None]
    sliding = ((causal | both_ways) & own_NT[:, None, :])[:, None]
    hidden = model.model.language_model(
        inputs_embeds=hidden, attention_mask={"full_attention": full, "sliding_attention": sliding},
        position_ids=at_T, use_cache=False,
    ).last_hidden_state  # fmt: skip

    step_A = torch.arange(texts.answers, device=pixels.device)[None]
    place_NA = stop_N1 + asked[:, None] + step_A
    wanted_NA = behind.gather(1, (asked[:, None] + step_A).clamp(max=tail - 1))
    wanted_NA = wanted_NA.masked_fill(asked[:, None] + step_A >= length[:, None], IGNORE_INDEX)
    before_NA = (place_NA - 1).clamp(max=total - 1)
    chosen = hidden.gather(1, before_NA[..., None].expand(-1, -1, hidden.shape[2]))
    cap = model.config.text_config.final_logit_softcapping
    logits = torch.tanh(model.lm_head(chosen).float() / cap) * cap
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted_NA.flatten(), ignore_index=IGNORE_INDEX)
    right = ((logits.argmax(-1) == wanted_NA) | (wanted_NA == IGNORE_INDEX)).all(1)
    return loss, right


# --------------------------------------------------------------------------- one step


class Learner:
    """The model, fp32 masters of its weights, an optimizer, and one step of it.

    On a card the model computes in bf16, and the whole step can be captured as a CUDA graph.
    """

    def __init__(self, size: base.Size, batch: int, device: str, seed: int = SEED, after: Path | None = None) -> None:
        self.values, self.names = base.config_of(size), SHARE_OF_NAMES if after else 0.0
        self.device, self.batch, self.cuda = device, batch, device == "cuda"
        self.texts = texts_of(self.values).to(device)
        model = base.fresh(self.values, seed, device)
        if after is not None:
            base.take_weights(model, after)
        self.masters = [parameter.detach().clone() for parameter in model.parameters()]
        self.model = model.to(torch.bfloat16) if self.cuda else model
        if self.cuda:  # tables of angles are not weights; bf16 has no room for them
            _keep_precise(self.model)
        self.weights = list(self.model.parameters())
        for master, weight in zip(self.masters, self.weights, strict=True):
            weight.grad, master.grad = torch.zeros_like(weight), torch.zeros_like(master)
        self.rate = torch.zeros((), device=device)
        self.optimizer = torch.optim.AdamW(
            self.masters, lr=self.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True, capturable=self.cuda or None
        )
        self.scenes, self.asked = (tensor.to(device) for tensor in drawn(batch, torch.Generator().manual_seed(0)))
        self.loss = torch.zeros((), device=device)
        self.graph: Any = None

    def forward(self) -> torch.Tensor:
        """The loss of the batch that lies in `scenes` and `asked`."""
        with part("paint"), torch.no_grad():
            pixels, places = patches(self.scenes, most=base.SOFT_TOKENS, pool=base.POOL, side=base.PATCH)
            pixels = pixels.to(self.weights[0].dtype)
        return loss_and_right(self.model, self.texts, pixels, places, self.asked)[0]

    def step(self) -> None:
        """Forward, backward, clip, update; nothing here waits for the card."""
        loss = self.forward()
        with part("backward"):
            loss.backward()
        with part("optimizer"):
            gradients = [master.grad for master in self.masters]
            torch._foreach_copy_(gradients, [weight.grad for weight in self.weights])
            torch._foreach_zero_([weight.grad for weight in self.weights])
            nn.utils.clip_grad_norm_(self.masters, 1.0, foreach=True)
            self.optimizer.step()
            with torch.no_grad():
                torch._foreach_copy_(self.weights, self.masters)
            self.loss.copy_(loss.detach())

    def compile(self) -> None:
        """Let every layer and the painter be compiled."""
        for layer in self.layers():
            layer.compile(dynamic=False)

    def layers(self) -> list[nn.Module]:
        """Of both towers."""
        own = self.model.model
        return [*own.vision_tower.encoder.layers, *own.language_model.layers]

    def capture(self) -> None:
        """From now on `take` replays one CUDA graph."""
        self.rate.zero_()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of this stage."""
        return drawn(self.batch, generator, names=self.names)

    def take(self, generator: torch.Generator, rate: float) -> None:
        """Draw a batch and learn from it."""
        for own, new in zip((self.scenes, self.asked), self.draw(generator), strict=True):
            own.copy_(new.pin_memory() if self.cuda else new, non_blocking=True)
        self.rate.fill_(rate)
        if self.graph is None:
            self.step()
        else:
            self.graph.replay()

    @contextlib.contextmanager
    def plainly(self) -> Iterator[None]:
        """Layers as written, for a while: another mode would be compiled anew, and hooks passed by."""
        kept = [layer._compiled_call_impl for layer in self.layers()]
        for layer in self.layers():
            layer._compiled_call_impl = None
        try:
            yield
        finally:
            for layer, compiled in zip(self.layers(), kept, strict=True):
                layer._compiled_call_impl = compiled

    @torch.no_grad()
    def tested(self, pictures: int = TESTED) -> dict[str, float]:
        """Loss and share of whole captions, single attributes and names that are right; on held-out pictures."""
        generator = torch.Generator().manual_seed(HELD_OUT)
        kinds = {"captions": (1.0, 0.0), "attributes": (0.0, 0.0), "names": (1.0, 1.0)}
        if not self.names:
            del kinds["names"]
        found: dict[str, list[torch.Tensor]] = {"loss": []} | {kind: [] for kind in kinds}
        with self.plainly():
            for kind, shares in kinds.items():
                for _ in range(-(-pictures // self.batch)):
                    scenes_, asked = (tensor.to(self.device) for tensor in drawn(self.batch, generator, *shares))
                    pixels, places = patches(scenes_, most=base.SOFT_TOKENS, pool=base.POOL, side=base.PATCH)
                    pixels = pixels.to(self.weights[0].dtype)
                    loss, right = loss_and_right(self.model, self.texts, pixels, places, asked)
                    found["loss"].append(loss)
                    found[kind].append(right.float().mean())
        return {name: round(float(torch.stack(values).mean()), 4) for name, values in found.items()}

    def bounds(self, pictures: int) -> dict[str, list[float]]:
        """Extremes of the activations around every clip wrapper on that many fresh pictures, uncompiled."""
        watching = base.Extremes(self.model)
        generator = torch.Generator().manual_seed(HELD_OUT + 1)
        with torch.no_grad(), self.plainly():
            for _ in range(-(-pictures // self.batch)):
                for own, new in zip((self.scenes, self.asked), self.draw(generator), strict=True):
                    own.copy_(new)
                self.forward()
        return watching.close()


def _keep_precise(model: Any) -> None:
    """Put tables of angles back to fp32, where transformers keeps them."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if "inv_freq" in name and hasattr(module, "config"):
                fresh = type(module)(module.config).to(buffer.device)
                setattr(module, name, getattr(fresh, name))


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Name a part of a step for the profiler."""
    with torch.profiler.record_function(f"part: {name}"):
        yield


# --------------------------------------------------------------------------- a run of it


@dataclass(frozen=True)
class Plan:
    """How a base is pre-trained."""

    size: base.Size
    batch: int
    device: str
    rate: float
    """At its peak; it falls as a cosine over the steps, or over the seconds where no steps are given."""
    seed: int = SEED
    seconds: float = 0.0
    steps: int | None = None
    compiled: bool = False
    captured: bool = False
    after: Path | None = None
    """Folder of the base of the first stage, which this second one goes on from."""
    every: float = 20.0
    """Seconds from one look at held-out pictures to the next."""


def pretrain(plan: Plan, say: Callable[[dict[str, Any]], None]) -> Learner:
    """Train a base."""
    begun = time.perf_counter()
    learner = Learner(plan.size, plan.batch, plan.device, plan.seed, plan.after)
    if plan.compiled:
        learner.compile()
    if learner.cuda and plan.captured:
        learner.capture()
    generator = torch.Generator().manual_seed(plan.seed + 1 if plan.after else plan.seed)
    start = spoken = time.perf_counter()
    say(
        {
            "kind": "begun",
            "setup_seconds": round(start - begun, 1),
            "parameters": sum(w.numel() for w in learner.weights),
        }
    )
    done, at = 0.0, 0
    while done < 1:
        warm = min(1.0, (at + 1) / 300)
        learner.take(generator, plan.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))))
        at += 1
        if at % 10 == 0 and learner.cuda:
            torch.cuda.synchronize()  # the host must not run ahead of the clock
        now = time.perf_counter()
        done = at / plan.steps if plan.steps else (now - start) / plan.seconds
        if now - spoken > plan.every or done >= 1:
            told = {
                "kind": "pretrain",
                "step": at,
                "seconds": round(now - start, 1),
                "train_loss": round(float(learner.loss), 4),
            }
            say(told | learner.tested(TESTED if learner.cuda else 8))
            paused = time.perf_counter() - now
            start, spoken = start + paused, now + paused
    say(
        {
            "kind": "pretrained",
            "steps": at,
            "seconds": round(time.perf_counter() - start, 1),
            "pictures": at * plan.batch,
            "parameters": sum(w.numel() for w in learner.weights),
        }
    )
    learner.graph = None
    return learner


def finish(learner: Learner, folder: Path, log: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
    """Give the model its clip bounds and write it; what `base.json` holds."""
    import hashlib

    pictures = 2_048 if learner.cuda else 8
    plain = learner.tested(pictures)
    base.set_bounds(learner.model, learner.bounds(pictures))
    clipped = learner.tested(pictures)
    base.write(folder, learner.model, learner.values)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    card = torch.cuda.get_device_name() if learner.cuda else "cpu"
    document = {
        "sha256": digest, **asked, "held_out": plain, "held_out_clipped": clipped, "device": card,
        "versions": installed(), "log": [line for line in log if line["kind"].startswith("pretrain")],
    }  # fmt: skip
    (folder / "base.json").write_text(json.dumps(document, indent=1) + "\n")
    return document


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder that gets the base, and pretrain.jsonl")
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--every", type=float, default=20)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--after", type=Path, help="base of the first stage")
    parser.add_argument("--cpu", action="store_true", help="on a CPU, the small size")
    parser.add_argument("--small", action="store_true", help="the small size, on a card")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--no-graph", action="store_true")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    log: list[dict[str, Any]] = []

    def say(line: dict[str, Any]) -> None:
        log.append(line)
        with (given.out / "pretrain.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    torch.set_float32_matmul_precision("high")
    if given.profile:
        from tests.gpu.standin.profile import profile

        profile(given.out, "cpu" if given.cpu else "cuda", say)
        return
    size = base.CPU if given.cpu or given.small else base.GPU
    plan = Plan(
        size, given.batch, "cpu" if given.cpu else "cuda", given.rate, given.seed, given.seconds, given.steps,
        compiled=not (given.cpu or given.eager), captured=not (given.cpu or given.no_graph), every=given.every,
        after=given.after,
    )  # fmt: skip
    learner = pretrain(plan, say)
    asked = {"size": vars(size), "batch": given.batch, "rate": given.rate, "seed": given.seed}
    if given.after:
        asked["after"] = json.loads((given.after / "base.json").read_text())
    say({"kind": "base", **{k: v for k, v in finish(learner, given.out / "base", log, asked).items() if k != "log"}})


if __name__ == "__main__":
    main()
