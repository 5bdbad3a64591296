"""What a script's text tells of its values: worked out where it follows from the text, named where only a run tells."""

from __future__ import annotations

import pytest

from vlcheck.config.foreign.scripts.sliced import Unsliceable, load_collator, slice_of
from vlcheck.config.load import load

TRAINS = """
import argparse, os, json, torch
from dataclasses import dataclass, field
from pathlib import Path
from peft import LoraConfig
from transformers import HfArgumentParser, TrainingArguments
from trl import SFTConfig, SFTTrainer
{prelude}
SFTTrainer("a/b", SFTConfig(output_dir="out"), train_dataset=None, peft_config=LoraConfig(r={value})).train()
"""


@pytest.fixture
def read(tmp_path):
    """Read a script in which the rank is this."""

    def read(prelude: str, value: str = "R"):
        (tmp_path / "t.py").write_text(TRAINS.format(prelude=prelude, value=value))
        return load(tmp_path / "t.py")

    return read


PARSER = """p = argparse.ArgumentParser()
p.add_argument('count', type=int, nargs='?', default=1)
p.add_argument('--rank', '-r', type=int, default=4)
p.add_argument('--big', action=argparse.BooleanOptionalAction, default=True)
p.add_argument('--sizes', nargs='+', type=int)
p.add_argument('--quiet', '-q', action='store_true')
"""
FIELDS = "@dataclass\nclass C:\n    rank: int = 4\n"
KNOWN = {
    "a constant": "R = 16",
    "arithmetic": "R = 2 ** 3 * 4 // 2",
    "a text": "R = int('1' + '6')",
    "a format": "R = int('%d%d' % (1, 6)) or int('{}{}'.format(1, 6))",
    "an f-string": "N = 6\nR = int(f'1{N:d}')",
    "a dict": "C = {'lora': {'r': 16}}\nR = C['lora']['r']",
    "a dict that grows": "C = dict(a=1)\nC['r'] = 16\nC.update(b=2)\nR = C.get('r', 3)",
    "a union": "C = {'r': 1} | {'r': 16}\nR = C['r']",
    "a list": "L = [1]\nL.append(16)\nL += [2]\nR = L[1]",
    "a slice": "R = [1, 2, 16][-1:][0]",
    "unpacking": "A, (R, *B) = 1, (16, 2)\n(R, S) = (16, 2)",
    "a comprehension": "R = sum([n for n in range(6) if n > 0]) + 1",
    "a loop": "R = 1\nfor n in (2, 8): R *= n",
    "a path": "R = int((Path('a') / '16').as_posix().split('/')[-1])",
    "a walrus": "print(R := 16)",
    "a known condition": "QLORA = True\nif QLORA: R = 16\nelse: R = 8",
    "a ternary": "R = 16 if not False else 8",
    "or": "R = None or 0 or 16",
    "a comparison": "R = 16 if 3 in (1, 2, 3) and 1 < 2 <= 2 else 8",
    "a class of constants": "class C:\n    r = 16\nR = C.r",
    "a dataclass": "@dataclass\nclass C:\n    r: int = field(default=16)\nR = C().r",
    "a factory": "@dataclass\nclass C:\n    t: list = field(default_factory=lambda: [16])\nR = C().t[0]",
    "an attribute set": "c = SFTConfig()\nc.seed = 16\nR = c.seed",
    "a function": "def f(a, b=2, *, c): return a * b * c\nR = f(2, c=4)",
    "two functions": "def g(x): return x + 1\ndef f(x): return g(x) * 2\nR = f(7)",
    "keywords": "def f(**k): return k['r']\nR = f(**{'r': 16})",
    "a lambda": "R = (lambda x: x * 2)(8)",
    "a guard": "def f(x):\n    if x is None:\n        raise ValueError\n    return x\nR = f(16)",
    "a deleted branch": "import sys\nif len([]) > 3:\n    sys.exit(1)\nR = 16",
    "a namespace": "R = argparse.Namespace(r=16).r",
    "a guarded main": "if __name__ == '__main__':\n    R = 16",
    "a try without a way out": "try:\n    R = 16\nexcept Exception:\n    raise",
    "a with": "with open('x') as f:\n    R = 16",
    "a partial": "from functools import partial\ndef f(a, b, c=1): return a * b * c\nR = partial(f, 2, c=2)(4)",
    "a partial of a class": "from functools import partial\nC = partial(LoraConfig, r=4, lora_alpha=16)\n"
    "R = C(r=1).lora_alpha",
    "words for argparse": f"{PARSER}R = p.parse_args(['--rank', '16']).rank",
    "words by way of a function": f"{PARSER}def f(argv=None): return p.parse_args(argv)\nR = f(['--rank=16']).rank",
    "words, cut short": f"{PARSER}R = p.parse_known_args(['--ra', '16', '--other'])[0].rank",
    "a switch among words": f"{PARSER}R = 8 if p.parse_args(['--no-big']).big else 16",
    "words of several": f"{PARSER}R = p.parse_args(['--sizes', '2', '16', '-q']).sizes[1]",
    "a word by its place": f"{PARSER}R = p.parse_args(['-r16', '16']).count",
    "no words": f"{PARSER}R = p.parse_args([]).rank * 4",
    "words for dataclasses": f"{FIELDS}C, A = HfArgumentParser((C, TrainingArguments)).parse_args_into_dataclasses("
    "['--rank', '16', '--seed', '3'])\nR = C.rank if A.seed == 3 else 1",
    "a dict for dataclasses": f"{FIELDS}C, = HfArgumentParser(C).parse_dict({{'rank': 16}})\nR = C.rank",
    "a comprehension over letters": "R = 4 * len([f'{a}_proj' for a in 'qkvo'])",
    "a copy": "from copy import deepcopy\nA = SFTConfig(seed=8)\nB = deepcopy(A)\nB.seed = 2\nR = A.seed * B.seed",
    "a copy of a list": "A = [[4]]\nB = list(A)\nB.append(1)\nR = len(A) * A[0][0] * 4",
    "a list of a range": "R = list(range(10, 34))[6]",
    "a member of an enum": "from enum import Enum\nclass E(Enum):\n    A = 16\nR = E.A.value",
    "an attribute set by name": "c = SFTConfig()\nfor k, v in {'seed': 16}.items(): setattr(c, k, v)\nR = c.seed",
    "a match": "K = 'b'\nmatch K:\n    case 'a' | None: R = 1\n    case 'b': R = 16\n    case _: R = 2",
    "a match of the rest": "match 3:\n    case 1: R = 1\n    case other: R = other + 13",
    "a variable set before": "os.environ['RANK'] = '16'\nR = int(os.environ['RANK'])",
    "a variable set, and its default": "os.environ['RANK'] = '16'\nR = int(os.getenv('RANK', '4'))",
    "a variable that is set": "os.environ.update({'BIG': '1'})\nR = 16 if 'BIG' in os.environ else 8",
}


@pytest.mark.parametrize("kind", KNOWN)
def test_what_follows_from_the_text_is_known(read, kind):
    spec = read(KNOWN[kind])

    assert spec.lora.r == 16
    assert spec.origin.assumed == read("R = 16").origin.assumed


def test_an_attribute_that_no_library_knows_changes_nothing(tmp_path):
    """Also where it is called as a part of the reader's own document is."""
    script = TRAINS.replace('SFTConfig(output_dir="out")', "args")
    for number, attributes in enumerate(("", "args.trainer = args.rows = 1e-5\nargs.optimizer = 'x'")):
        prelude = f"args = SFTConfig(output_dir='out')\n{attributes}"
        (tmp_path / f"{number}.py").write_text(script.format(prelude=prelude, value=16))
    bare, more = (load(tmp_path / f"{number}.py") for number in range(2))

    assert (more.training, more.data, more.origin.unread) == (bare.training, bare.data, bare.origin.unread)


NO_LINE = "no command line is known, so these are their defaults: "
ASSUMED = {
    "P = argparse.ArgumentParser()\nP.add_argument('--rank', type=int, default=16)\nR = P.parse_args().rank": (
        f"{NO_LINE}--rank (line 9)"
    ),
    "P = argparse.ArgumentParser()\nP.add_argument('-r', '--lora-r', default=16)\nR = P.parse_known_args()[0].lora_r": (
        f"{NO_LINE}--lora-r (line 9)"
    ),
    "@dataclass\nclass A:\n    r: int = 16\nP = HfArgumentParser((A, SFTConfig))\n"
    "(a, t) = P.parse_args_into_dataclasses()\nR = a.r": f"{NO_LINE}fields of A (line 12)",
    "R = 16 if torch.cuda.is_bf16_supported() else 8": (
        "a card with bfloat16 is taken to be there, so these are true: torch.cuda.is_bf16_supported (line 8)"
    ),
    "R = int(os.environ.get('R', 16))": "the environment is taken to set none of these: R (line 8)",
    "R = int(os.getenv('R', '16'))": "the environment is taken to set none of these: R (line 8)",
    "os.environ.setdefault('R', '16')\nR = int(os.environ['R'])": (
        "the environment is taken to set none of these: R (line 8)"
    ),
    "K = dict(r=16) if os.fork() else {}\nR = {**K}['r']": (
        'line 8: `dict(r=16) if os.fork() else {}` is {"r": 16} or {}, as a run decides; the first was judged'
    ),
    "import click\n@click.command()\n@click.option('--lora-r', '-r', type=int, default=16)\n"
    "def f(lora_r): return lora_r\nR = f()": f"{NO_LINE}--lora-r (line 10)",
    "import typer\ndef f(r: int = typer.Option(16, '--rank')): return r\nR = typer.run(f)": (
        f"{NO_LINE}parameter (line 9), parameters of f (line 10)"
    ),
    "import fire\ndef f(r=16): return r\nR = fire.Fire(f)": f"{NO_LINE}parameters of f (line 10)",
    "match os.fork():\n    case 0: R = 16\n    case _: R = 8": (
        "line 8: `R` is 16 or 8, as a run decides; the first was judged"
    ),
    "R = 16 if os.fork() else 8": (
        "line 8: `16 if os.fork() else 8` is 16 or 8, as a run decides; the first was judged"
    ),
    "if os.fork():\n    R = 16\nelse:\n    R = 8": ("line 8: `R` is 16 or 8, as a run decides; the first was judged"),
    "R = 8\nif os.fork():\n    R = 16": ("line 9: `R` is 16 or 8, as a run decides; the first was judged"),
    "try:\n    import flash_attn\n    R = 16\nexcept ImportError:\n    R = 8": (
        "line 8: `R` is 16 or 8, as a run decides; the first was judged"
    ),
    "R = json.load(open('c'))['r'] if os.fork() else 16": "the second, since the first is not known,",
    "def f():\n    if os.fork():\n        return 16\n    return 8\nR = f()": (
        "line 12: `f(...)` is 16 or 8, as a run decides; the first was judged"
    ),
}


@pytest.mark.parametrize("prelude", ASSUMED)
def test_what_is_taken_for_granted_is_said(read, prelude):
    spec = read(prelude)

    assert spec.lora.r == 16
    assert any(ASSUMED[prelude] in sentence for sentence in spec.origin.assumed), spec.origin.assumed


UNKNOWN = {
    "R = json.load(open('c.json'))['r']": "`R` (`r` of `json.load(...)` of line 8)",
    "R = int(input())": "`R` (`int(...)` of line 8)",
    "R = int(os.environ['R'])": "`R` (`os.environ['R']` of line 8)",
    "P = argparse.ArgumentParser()\nP.add_argument('r', type=int)\nR = P.parse_args().r": "`R` (`args.r` of line 9)",
    "def f(n): return f(n - 1)\nR = f(3)": "`R` (`f(...)` of line 8)",
    "R = 10 ** 10 ** 10": "`R` (`10 ** 10 ** 10` of line 8)",
    "R = '%999999999d' % 1": "`R` (`'%999999999d' % 1` of line 8)",
    "R = eval('16')": "`R` (`eval(...)` of line 8)",
    "from elsewhere import R": "`R` (`elsewhere.R`)",
    "if os.fork(): os.environ['R'] = '16'\nR = int(os.getenv('R', '8'))": "`R` (`os.environ['R']` of line 8)",
    "P = argparse.ArgumentParser()\nP.add_argument('--rank')\nR = P.parse_args(['--rank', input()]).rank": (
        "`R` (`input(...)` of line 10)"
    ),
    "P = argparse.ArgumentParser()\nP.add_argument('--r', type=int)\nR = P.parse_args([input(), '3']).r": (
        "`R` (`args.r` of line 10)"
    ),
}


@pytest.mark.parametrize("prelude", UNKNOWN)
def test_what_only_a_run_tells_is_named_with_what_it_decides(read, prelude):
    spec = read(prelude)
    (unread,) = [key for key in spec.origin.unread if key.where.key == "LoraConfig.r"]

    assert spec.lora.r == 8
    assert unread.message == f"LoraConfig.r: {UNKNOWN[prelude]} is known only when the script runs; it decides lora.r"
    assert set(unread.touches) == {"memory", "placement"}


COLLATES = """
import math
from peft import LoraConfig
from transformers import AutoProcessor, AutoModelForImageTextToText, Trainer, TrainingArguments

open({mark!r}, "w")
processor = AutoProcessor.from_pretrained("a/b")
WEIGHTS, SIDE = [1, 2], "right"

def double(number):
    return math.floor(number * WEIGHTS[1])

def make(side, factor):
    def collate(rows):
        return {{"rows": double(len(rows)) * factor, "side": side, "processor": processor}}
    return collate

class Collator:
    def __call__(self, rows):
        return {{"rows": len(rows), "side": SIDE, "processor": None}}

model = AutoModelForImageTextToText.from_pretrained("a/b")
Trainer(model=model, args=TrainingArguments("out"), data_collator={collator}).train()
"""


@pytest.mark.parametrize(
    ("collator", "made"),
    [
        ("make('left', 3)", {"rows": 12, "side": "left", "processor": "ours"}),
        ("Collator()", {"rows": 2, "side": "right", "processor": None}),
        ("lambda rows: {'rows': double(len(rows))}", {"rows": 4}),
    ],
)
def test_a_collator_is_run_with_what_it_needs_and_nothing_else(tmp_path, collator, made):
    """With the run's processor in place of its own, and without the rest of the script."""
    mark = tmp_path / "ran"
    (tmp_path / "train.py").write_text(COLLATES.format(mark=str(mark), collator=collator))

    assert load_collator(f"{tmp_path}/train.py:collate", "ours")([1, 2]) == made
    assert not mark.exists()


def test_a_collator_that_needs_more_is_not_run(tmp_path):
    (tmp_path / "train.py").write_text(COLLATES.format(mark="x", collator="lambda rows: model"))
    with pytest.raises(Unsliceable, match=r"the collator needs model, which is `AutoModelForImageTextToText.from_pre"):
        slice_of(tmp_path / "train.py")
