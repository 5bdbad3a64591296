"""Bad configs: each gives clear one-line problems with line and column, never a traceback."""

from __future__ import annotations

import os

import pytest

from vlcheck.config.load import load
from vlcheck.spec import ConfigError

MODEL = "model: {id: a/b}\n"
GOOD = MODEL + "lora: {}\n"

RANK = "allowed: an integer from 1 to 65536"
RATE = "allowed: a finite number above 0 and at most 10"
NAMES = "a string of 1 to 2000 characters, or a list of 1 to 10000 strings, or null"
LORA_KEYS = "r, lora_alpha, lora_dropout, target_modules, exclude_modules, target_parameters, …"
MODEL_KEYS = "id, revision, dtype, weights, attn_implementation, patch"
OTHERS = (
    "axolotl: base_model and processor_type; "
    "llamafactory: model_name_or_path beside finetuning_type, stage, template or cutoff_len; "
    "trl: model_name_or_path beside keys of TRL's SFTConfig, ModelConfig or ScriptArguments; "
    "ms-swift: model, a text, and mostly arguments of `swift sft` such as tuner_type, dataset or torch_dtype; "
    "transformers: keys of TrainingArguments and no model, or peft_type"
)
SECTIONS = "model, lora, quantization, data, training, hardware, launch, intent, gate"
MAPPING = "allowed: a mapping of keys to values"
ONE_QUANTIZATION = "exactly one of load_in_4bit and load_in_8bit must be true"

# name: (config, the problems it must give, without the file's name)
MALFORMED: dict[str, tuple[str | bytes, list[str]]] = {
    # --- the file as text
    "empty": ("", [f"1:1: file holds nothing; {MAPPING}"]),
    "only comments": ("# nothing\n", [f"1:1: file holds only comments; {MAPPING}"]),
    "Latin-1": (b"a: 1\nb: \xe4", ["2:4: byte 0xe4 is not UTF-8; allowed: UTF-8 text"]),
    "UTF-16": ("a: 1".encode("utf-16"), ["1:1: is UTF-16; allowed: UTF-8"]),
    "UTF-16 without mark": (
        "a: 1".encode("utf-16-le"),
        [
            "1:2: control character U+0000; allowed: printable text, tabs and line ends; "
            "the file looks like UTF-16, save it as UTF-8"
        ],
    ),
    "escape character": (
        "a: \x1b[31m",
        ["1:4: control character U+001B; allowed: printable text, tabs and line ends"],
    ),
    "too large": ("#" * 262_145, ["1:1: larger than 256 KiB; allowed: a config of at most 262144 bytes"]),
    # --- YAML
    "two documents": (GOOD + "---\n" + GOOD, ["3:1: a second document starts here; allowed: one document a file"]),
    "list at top": ("- a\n- b\n", [f"1:1: top level is a list; {MAPPING}"]),
    "string at top": ("model\n", [f'1:1: top level is the string "model"; {MAPPING}']),
    "null at top": ("---\n", [f"2:1: top level is null; {MAPPING}"]),
    "duplicate key": (
        MODEL + "lora:\n  r: 8\n  lora_alpha: 8\n  r: 16\n",
        ["5:3: duplicate key lora.r; first on line 3"],
    ),
    "duplicate section": (GOOD + "model: {id: c/d}\n", ["3:1: duplicate key model; first on line 1"]),
    "integer key": ("1: 2", ["1:1: key is the integer 1; allowed: a string, if need be in quotes"]),
    "list as key": ("? [a]\n: 1", ["1:3: key is a list; allowed: a string, if need be in quotes"]),
    "merge key": (
        "a: &a {r: 8}\nlora:\n  <<: *a\n",
        ["3:3: merge key << is not part of YAML 1.2; write the keys out"],
    ),
    "tag": (
        "model: !!python/object/apply:os.system [ls]",
        ["1:8: tag !!python/object/apply:os.system is not allowed; write the plain value"],
    ),
    "local tag": ("a: !foo 1", ["1:4: tag !foo is not allowed; write the plain value"]),
    "core tag": ("a: !!int 1", ["1:4: tag !!int is not allowed; write the plain value"]),
    "alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [" + "*a," * 50 + "]\nc: [" + "*b," * 50 + "]\n",
        ["3:1: more than 20000 values up to this key, aliases expanded; allowed: at most 20000 values"],
    ),
    "recursive alias": ("a: &a\n  b: *a", ["2:6: alias *a stands inside its own anchor"]),
    "unknown alias": ("a: *b", ["1:4: alias *b has no anchor before it"]),
    "deep nesting": ("a: " + "[" * 40 + "]" * 40, ["1:35: nested deeper than 32 levels"]),
    "huge integer": ("a: " + "9" * 5000, ["1:4: integer of 5000 digits; allowed: at most 400"]),
    "YAML 1.1": (
        "%YAML 1.1\n---\na: yes",
        ["1:1: declares YAML 1.1; allowed: YAML 1.2, where yes, no, on and off are strings"],
    ),
    "tab": (
        "lora:\n\tr: 8",
        ["2:1: not valid YAML: found character '\\t' that cannot start any token; indent with spaces, not with tabs"],
    ),
    "unclosed list": (
        "a: [1, 2",
        [
            "1:9: not valid YAML: expected ',' or ']', but got '<stream end>', "
            "while parsing a flow sequence that starts on line 1"
        ],
    ),
    "colon in value": (
        "a: b: c",
        [
            "1:5: not valid YAML: mapping values are not allowed here; "
            "check the indentation; a value that holds ': ' needs quotes"
        ],
    ),
    "surrogate": ('a: "\\ud800"', ["1:4: control character U+D800 in a value"]),
    "impossible character": (
        'a: "\\UFFFFFFFF"',
        ["1:2: not valid YAML after this place: Python int too large to convert to C int"],
    ),
    "attention of a part that is none": (
        "model: {id: a, attn_implementation: {vision: eager}}\nlora: {}",
        [
            '1:16: model.attn_implementation is {"vision": "eager"}; allowed: one of eager, sdpa, flash_attention_2, '
            "flash_attention_3, flash_attention_4, flex_attention, or a mapping with keys text_config, vision_config, "
            "audio_config, or null"
        ],
    ),
    "attention of a part": (
        "model: {id: a, attn_implementation: {vision_config: eagr}}\nlora: {}",
        [
            '1:38: model.attn_implementation.vision_config is "eagr"; allowed: one of eager, sdpa, flash_attention_2, '
            "flash_attention_3, flash_attention_4, flex_attention, or null; did you mean eager?"
        ],
    ),
    # --- sections
    "no section at all": (
        "foo: 1\n",
        [
            f"1:1: unknown dialect, top-level keys: foo; known dialects: {OTHERS}; "
            f"native: a top-level section: {SECTIONS}"
        ],
    ),
    "another tool's": (
        "model: a/b\ndataset: c\n" + "".join(f"k{number}: 1\n" for number in range(9)),
        [
            f"1:1: unknown dialect, top-level keys: model, dataset, k0, k1, k2, k3, k4, k5; known dialects: {OTHERS}; "
            f"native: a top-level section: {SECTIONS}"
        ],
    ),
    "no model": ("lora: {}", [f"1:1: section model is missing; required: a mapping with keys {MODEL_KEYS}"]),
    "quantised without lora": (
        MODEL + "quantization: {load_in_4bit: true}\n",
        ["2:1: quantization: quantised weights cannot be trained, and without lora every weight is; add lora"],
    ),
    "freeze beside lora": (
        GOOD + "training: {freeze: [vision]}\n",
        [
            "3:12: training.freeze: freeze is a switch of llamafactory, ms-swift, unsloth, and of runs without lora; "
            "elsewhere lora.exclude_modules leaves parts out"
        ],
    ),
    "no model id": (
        "lora: {}\nmodel: {dtype: float16}\n",
        ["2:1: section model has no id; required: a string of 1 to 2000 characters"],
    ),
    "section null": (
        MODEL + "lora:\n",
        [f"2:1: lora is null; allowed: a mapping with keys {LORA_KEYS}; leave the section out or give it keys"],
    ),
    "section is a list": (
        GOOD + "hardware: []",
        ["3:1: hardware is []; allowed: a mapping with keys gpu, memory_gib, count, price_per_hour"],
    ),
    "section misspelt": (GOOD + "trainning: {}", ["3:1: unknown key trainning; did you mean training?"]),
    "dotted key": (GOOD + "lora.r: 8", ["3:1: unknown key lora.r; write it as nested keys, without the dot"]),
    # --- keys
    "unknown key": (
        GOOD + "hardware:\n  zzz: 1",
        ["4:3: unknown key hardware.zzz; allowed: gpu, memory_gib, count, price_per_hour"],
    ),
    "misspelt key": (
        MODEL + "lora:\n  target_module: x",
        ["3:3: unknown key lora.target_module; did you mean target_modules?"],
    ),
    "misspelt nested key": (
        GOOD + "training: {gradient_checkpointing_kwargs: {use_reentrat: false}}",
        ["3:44: unknown key training.gradient_checkpointing_kwargs.use_reentrat; did you mean use_reentrant?"],
    ),
    "key of another section": (
        MODEL + "lora:\n  learning_rate: 1e-4",
        ["3:3: unknown key lora.learning_rate; it belongs in section training"],
    ),
    "key without section": (
        GOOD + "learning_rate: 1e-4",
        ["3:1: unknown key learning_rate; it belongs in section training"],
    ),
    "removed key": (
        GOOD + "training:\n  warmup_ratio: 0.1",
        ["4:3: unknown key training.warmup_ratio; removed in transformers 5; write warmup_steps with a value below 1"],
    ),
    "renamed keys": (
        MODEL + "lora:\n  alpha: 1\n  dropout: 0\n  rank: 8",
        [
            "3:3: unknown key lora.alpha; write lora_alpha",
            "4:3: unknown key lora.dropout; write lora_dropout",
            "5:3: unknown key lora.rank; write r",
        ],
    ),
    # --- values
    "negative rank": (MODEL + "lora:\n  r: -1", [f"3:3: lora.r is -1; {RANK}"]),
    "rank too large": (MODEL + "lora: {r: 65537}", [f"2:8: lora.r is 65537; {RANK}"]),
    "rank enormous": (
        MODEL + "lora: {r: " + "9" * 399 + "}",
        [f"2:8: lora.r is an integer of 399 digits; {RANK}"],
    ),
    "bool as int": (MODEL + "lora: {r: true}", [f"2:8: lora.r is true; {RANK}"]),
    "string as int": (MODEL + "lora: {r: '16'}", [f'2:8: lora.r is "16"; {RANK}; write 16 without quotes']),
    "float as int": (MODEL + "lora: {r: 16.0}", [f"2:8: lora.r is 16.0; {RANK}"]),
    "null as int": (MODEL + "lora: {r: }", [f"2:8: lora.r is null; {RANK}"]),
    "dropout 1": (
        MODEL + "lora: {lora_dropout: 1.0}",
        ["2:8: lora.lora_dropout is 1.0; allowed: a finite number from 0 to below 1"],
    ),
    "rate NaN": (GOOD + "training: {learning_rate: .nan}", [f"3:12: training.learning_rate is .nan; {RATE}"]),
    "rate infinite": (GOOD + "training: {learning_rate: .inf}", [f"3:12: training.learning_rate is .inf; {RATE}"]),
    "rate 1e999": (GOOD + "training: {learning_rate: 1e999}", [f"3:12: training.learning_rate is .inf; {RATE}"]),
    "rate in quotes": (
        GOOD + "training: {learning_rate: '5e-5'}",
        [f'3:12: training.learning_rate is "5e-5"; {RATE}; write 5e-5 without quotes'],
    ),
    "infinite alpha": (
        MODEL + "lora: {lora_alpha: -.inf}",
        ["2:8: lora.lora_alpha is -.inf; allowed: a finite number above 0"],
    ),
    "yes as bool": (
        GOOD + "training: {bf16: yes}",
        ['3:12: training.bf16 is "yes"; allowed: true or false; write true'],
    ),
    "misspelt literal": (
        GOOD + "training: {save_strategy: step}",
        ['3:12: training.save_strategy is "step"; allowed: one of no, steps, epoch, best; did you mean steps?'],
    ),
    "number for names": (MODEL + "lora: {target_modules: 3}", [f"2:8: lora.target_modules is 3; allowed: {NAMES}"]),
    "no names": (MODEL + "lora: {target_modules: []}", [f"2:8: lora.target_modules is []; allowed: {NAMES}"]),
    "number among names": (
        MODEL + "lora:\n  target_modules:\n    - q_proj\n    - 3\n    - ''",
        [
            "5:7: lora.target_modules.1 is 3; allowed: a string of 1 to 2000 characters",
            '6:7: lora.target_modules.2 is ""; allowed: a string of 1 to 2000 characters',
        ],
    ),
    "rank pattern": (
        MODEL + "lora:\n  rank_pattern:\n    q_proj: 0",
        ["4:5: lora.rank_pattern.q_proj is 0; allowed: an integer from 1 to 1000000000"],
    ),
    "unknown modality": (
        GOOD + "data: {modalities: [image, smell]}",
        ['3:28: data.modalities.1 is "smell"; allowed: one of image, text, audio, video'],
    ),
    # --- values that contradict each other
    "bf16 and fp16": (
        GOOD + "training:\n  bf16: true\n  fp16: true",
        ["3:1: training: bf16 is true, fp16 is true; bf16 and fp16 exclude each other"],
    ),
    "4 and 8 bits": (
        GOOD + "quantization: {load_in_4bit: true, load_in_8bit: true}",
        [f"3:1: quantization: load_in_4bit is true, load_in_8bit is true; {ONE_QUANTIZATION}"],
    ),
    "neither 4 nor 8 bits": (
        GOOD + "quantization: {bnb_4bit_quant_type: nf4}",
        [f"3:1: quantization: load_in_4bit is not set, load_in_8bit is not set; {ONE_QUANTIZATION}"],
    ),
    "bad patch": (
        "model: {id: a/b, patch: os.system}\nlora: {}",
        ['1:1: model: patch is "os.system"; patch must have the form package.module:function'],
    ),
    # --- paths
    "bad Hub id": (
        "model: {id: a/b/c}\nlora: {}",
        [
            '1:9: model.id is "a/b/c"; allowed: a Hub id (name or org/name; letters, digits, . _ -) '
            "or a folder that starts with ./, ../, / or ~"
        ],
    ),
    "no model folder": (
        "model: {id: ./gone}\nlora: {}",
        ['1:9: model.id is "./gone"; allowed: a folder with config.json; HERE/gone does not exist'],
    ),
    "model folder without config": (
        "model: {id: ../}\nlora: {}".replace("../", "./."),
        ['1:9: model.id is "./."; allowed: a folder with config.json; HERE has no config.json'],
    ),
    "no data": (
        GOOD + "data: {path: gone.jsonl}",
        ['3:8: data.path is "gone.jsonl"; allowed: an existing folder or file; HERE/gone.jsonl does not exist'],
    ),
    "many at once": (
        "training: {learning_rate: 0}\nlora: {r: 0, rank: 1}\nmodel: {id: ./gone, dtype: bf16}\n",
        [
            f"1:12: training.learning_rate is 0; {RATE}",
            f"2:8: lora.r is 0; {RANK}",
            "2:14: unknown key lora.rank; write r",
            '3:9: model.id is "./gone"; allowed: a folder with config.json; HERE/gone does not exist',
            '3:21: model.dtype is "bf16"; allowed: one of bfloat16, float16, float32; did you mean bfloat16?',
        ],
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name, tmp_path):
    """Each bad config gives exactly the problems of the table, sorted by place."""
    text, expected = MALFORMED[name]
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(ConfigError) as caught:
        load(path)

    here = str(tmp_path.resolve())
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:{message.replace('HERE', here)}" for message in expected
    ]


def test_missing_file(tmp_path):
    """A file that is not there is named as the user gave it."""
    assert _refusal(tmp_path / "gone.yaml") == "no such file; `vlcheck init` writes a commented one"
    assert (
        _refusal("") == "is a directory; allowed: a config file, or a folder with adapter_config.json"
    )  # "" is the working directory


def test_not_a_regular_file(tmp_path):
    """Folders, pipes and devices are refused without being opened."""
    os.mkfifo(tmp_path / "pipe")

    assert _refusal(tmp_path) == "is a directory; allowed: a config file, or a folder with adapter_config.json"
    assert _refusal(tmp_path / "pipe") == "is a named pipe; allowed: a regular file with YAML text"
    assert _refusal("/dev/zero") == "is a character device; allowed: a regular file with YAML text"


def test_unreadable_path(tmp_path):
    """A path that the system refuses is an error of the config's, with the system's reason."""
    (tmp_path / "file").write_text("")

    assert _refusal(tmp_path / "file" / "run.yaml") == "cannot be read: Not a directory"
    assert _refusal("a" * 5000) == "cannot be read: File name too long"
    assert _refusal("a\0b") == "cannot be read: embedded null byte"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    """A file without read permission says so."""
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    path.chmod(0)

    assert _refusal(path) == "cannot be read: Permission denied"


def _refusal(path):
    with pytest.raises(ConfigError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.where.file == os.fspath(path)
    return problem.message
