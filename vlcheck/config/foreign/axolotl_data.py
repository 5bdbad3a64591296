"""The rows of an Axolotl run: `datasets`, `test_datasets`, and what of them its collator for images reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, Unjudged, idle, together, unjudged
from vlcheck.config.foreign.rows import Rows, held_back, put_rows
from vlcheck.config.reading.quoting import quoted

_ROWS: Mapping[str, Fate] = {
    **together("path data_files split type field_messages ds_type"),
    **unjudged("name", "data"),
    **unjudged("revision shards shards_idx input_transform", "data"),
    **unjudged("chat_template chat_template_jinja", "labels", harmless=(None, "tokenizer_default")),
    **unjudged("train_on_eos train_on_eot", "labels", harmless=(None, "turn")),
    "roles_to_train": Unjudged(("labels",), (None, ["assistant"], ["gpt", "assistant"])),
    **unjudged("drop_system_message", "labels"),
    **unjudged("message_field_training message_field_training_detail", "labels"),
    **idle("trust_remote_code preprocess_shards conversation message_property_mappings message_field_role "
           "message_field_content roles field_tools field_thinking template_thinking_key split_thinking"),
}  # fmt: skip
"""Keys of an entry, axolotl/utils/schemas/datasets.py. Those that map names of fields are not read for rows with
images: axolotl/processing_strategies.py:150-260 knows `messages`, `conversations` and `field_messages` alone."""


def settle_data(draft: Draft) -> None:
    """Name the run's rows, and how often and on what it is evaluated."""
    if draft.value("sequence_len") is not None:
        draft.without_effect("sequence_len")
        draft.assumed.append("sequence_len cuts no row with images (axolotl/utils/collators/mm_chat.py)")
    entries = draft.value("datasets")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        draft.refuse("datasets", f"datasets is {quoted(entries)}; allowed: a list of mappings with a path")
        return
    put_rows(
        draft, [rows for number in range(len(entries)) for rows in _entry(draft, f"datasets.{number}")], "datasets"
    )
    _evaluation(draft)


def _entry(draft: Draft, key: str) -> Iterator[Rows]:
    """The data sets of one entry: one for each of its files."""
    draft.read(_ROWS, prefix=f"{key}.")
    kind, files = draft.value(f"{key}.type"), draft.value(f"{key}.data_files")
    if kind not in (None, "chat_template"):
        draft.doubt(f"{key}.type", "labels", "data")
    named = f"{key}.data_files" if files else f"{key}.path"
    split = draft.value(f"{key}.split")
    for name in files if files and isinstance(files, list) else [files or draft.value(f"{key}.path")]:
        if isinstance(name, str) and name:
            yield Rows(name, named, split, f"{key}.split")
        else:
            draft.doubt(named, "data")
    field = draft.value(f"{key}.field_messages")
    if field not in (None, "messages", "conversations"):
        draft.doubt(f"{key}.field_messages", "data", message=f"rows were read by messages, not by {quoted(field)}")


def _evaluation(draft: Draft) -> None:
    """Rows of another split of the same data, or a share of the training rows; axolotl/core/builders/base.py:523."""
    held_back(draft, "val_set_size")
    tests = draft.value("test_datasets")
    if not tests:
        return
    alone = isinstance(tests, list) and len(tests) == 1
    if not alone or draft.value("test_datasets.0.path") != draft.value("datasets.0.path"):
        draft.doubt("test_datasets", "data", message="is other data than datasets, and was not read")
        return
    draft.put("data.eval_split", draft.value("test_datasets.0.split") or "train", "test_datasets.0")
    often, epochs = draft.value("evals_per_epoch"), draft.value("num_epochs") or 1
    if draft.value("eval_steps") is not None:
        draft.put("training.eval_strategy", "steps", "eval_steps")
    elif isinstance(often, int | float) and isinstance(epochs, int | float) and often * epochs > 1:
        draft.put("training.eval_strategy", "steps", "evals_per_epoch")
        draft.put("training.eval_steps", 1 / (often * epochs), "evals_per_epoch")
    elif draft.value("eval_strategy") is not None:
        draft.put("training.eval_strategy", draft.value("eval_strategy"), "eval_strategy")
