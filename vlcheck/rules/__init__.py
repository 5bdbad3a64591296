"""Every rule, in report order. This tuple is the registry: a code is taken once it stands here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from vlcheck.finding import Rule, Severity
from vlcheck.rules import (
    adapters,
    answers,
    batches,
    budget,
    coverage,
    duplicates,
    frameworks,
    images,
    labels,
    launch,
    launch_image,
    launch_state,
    live,
    live_batches,
    memory,
    numerics,
    pictures,
    placement,
    prompts,
    regression,
    returned,
    row_forms,
    rows,
    saved_adapter,
    saved_settings,
    saved_values,
    sizes,
    spans,
    targets,
    waste,
    weights,
    wording,
)
from vlcheck.spec import ConfigError, Problem, RunSpec

RULES: tuple[Rule, ...] = (
    placement.wrapper_targeted,
    targets.adapters_refused,
    placement.clip_around,
    placement.clip_replaced,
    placement.merge_differs,
    placement.clip_inactive,
    placement.clip_bounds,
    targets.idle_exclude,
    targets.unmatched_target,
    targets.attention_refused,
    placement.clip_contradiction,
    targets.parameter_dropout,
    targets.idle_skip,
    weights.base_not_whole,
    spans.span_moves,
    labels.prompt_supervised,
    spans.answer_truncated,
    batches.missing_batch_key,
    labels.image_supervised,
    labels.answer_unsupervised,
    labels.everything_supervised,
    labels.end_unlearnt,
    labels.after_end_supervised,
    labels.header_supervised,
    labels.nothing_supervised,
    spans.label_shift,
    spans.anchor_in_prompt,
    batches.image_types_misaligned,
    pictures.placeholder_count,
    pictures.image_unseen,
    prompts.prompt_not_prefix,
    prompts.prompts_differ,
    batches.answer_visible,
    prompts.bos_count,
    prompts.columns_removed,
    prompts.pad_is_end,
    batches.rows_cross,
    batches.accumulation_changes_loss,
    returned.collator_fails,
    spans.rows_dropped,
    spans.prefix_swallows_answer,
    returned.shape_untaken,
    returned.batch_refused,
    returned.rows_lost,
    returned.rows_packed,
    wording.text_differs,
    wording.foreign_text_supervised,
    wording.ignore_index,
    pictures.images_misplaced,
    pictures.pixels_altered,
    pictures.grid_differs,
    pictures.image_settings,
    memory.mostly_unquantised,
    budget.over_budget,
    budget.tight_budget,
    waste.full_logits,
    waste.kbit_upcast,
    budget.checkpointing_off,
    budget.checkpointing_spare,
    budget.phase_too_large,
    waste.math_attention,
    budget.idle_card,
    waste.no_bf16,
    coverage.language_not_adapted,
    coverage.vision_not_adapted,
    coverage.projector_not_adapted,
    coverage.frozen_part,
    coverage.adapted_against_intent,
    adapters.unreachable_adapter,
    adapters.idle_adapter,
    adapters.router_adapted,
    adapters.tied_weight_saved,
    adapters.vision_tower_4bit,
    coverage.declared_part_missing,
    adapters.experts_not_adapted,
    adapters.ddp_unused_adapter,
    adapters.default_targets,
    coverage.part_half_adapted,
    images.unreadable_image,
    images.misnamed_image,
    images.transparent_image,
    images.converted_mode,
    images.clipped_pixels,
    images.turned_image,
    sizes.large_image,
    sizes.extreme_aspect_ratio,
    sizes.tiny_image,
    duplicates.split_duplicate,
    duplicates.near_duplicate,
    prompts.label_cut_differently,
    answers.answer_given_away,
    answers.label_variants,
    answers.class_imbalance,
    answers.unseen_answer,
    duplicates.contradicting_answers,
    rows.empty_split,
    rows.unreadable_row,
    rows.outside_folder,
    row_forms.images_missing,
    row_forms.image_column_unread,
    row_forms.image_not_in_list,
    row_forms.row_format,
    row_forms.placeholder_missing,
    numerics.fp16_overflow,
    numerics.mixed_adapter_dtypes,
    numerics.quant_storage_fsdp,
    numerics.head_too_wide,
    numerics.cache_changes_logits,
    numerics.exploding_gradients,
    frameworks.framework_unnamed,
    frameworks.key_not_understood,
    frameworks.argument_gone,
    regression.measured_values_moved,
)


ADAPTER_RULES: tuple[Rule, ...] = (
    saved_adapter.tensors_missing,
    saved_adapter.tensors_unexpected,
    saved_adapter.wrapper_split,
    saved_adapter.keys_renamed,
    saved_adapter.shape_differs,
    saved_adapter.copy_missing,
    saved_adapter.tied_copy,
    saved_settings.no_lora_settings,
    saved_settings.settings_differ,
    saved_settings.rank_differs,
    saved_settings.base_differs,
    saved_settings.sharded_adapter,
    saved_settings.saved_targets_refused,
    saved_values.no_tensors,
    saved_values.empty_tensors,
    saved_values.delta_zero,
    saved_values.not_finite,
    saved_values.odd_dtype,
)
"""The rules of `vlcheck check-adapter`; those above are the rules of `vlcheck audit`."""

LIVE_RULES: tuple[Rule, ...] = (
    live.attached_twice,
    live.adapters_frozen,
    live.parameter_in_no_group,
    live.idle_group,
    live_batches.labels_of_another_text,
    live_batches.images_gone,
    live.dropout_off,
    live.batch_fails,
    live.no_gradient,
    live.above_projection,
    live_batches.evaluation_images,
)
"""The rules that only a running job can be held to: those of `vlcheck.check_run`."""

OF_ADAPTERS = ("VLC1", "VLC3", "VLC4")
"""Codes of the rules that judge a run by its adapters."""

NOT_LIVE = (
    "VLC101", "VLC102", "VLC110", "VLC112", "VLC113", "VLC114", "VLC201", "VLC213", "VLC216", "VLC217", "VLC218",
    "VLC219", "VLC220", "VLC221", "VLC223", "VLC224", "VLC226", "VLC227", "VLC228", "VLC229", "VLC414", "VLC5",
    "VLC805", "VLC9",
)  # fmt: skip
"""Codes of rules that ask what a running job has answered already, or that take rows which it does not have."""
LAUNCH_RULES: tuple[Rule, ...] = (
    launch.job_hardware_differs,
    launch.job_over_budget,
    launch.timeout_too_short,
    launch.timeout_tight,
    launch.timeout_unset,
    launch.timeout_over_maximum,
    launch.accelerator_minimum,
    launch.region_without_card,
    launch_state.memory_short,
    launch_state.output_lost,
    launch_state.retry_from_scratch,
    launch_state.resume_finds_nothing,
    launch_state.resumes_any_checkpoint,
    launch_state.work_at_risk,
    launch_state.grace_too_short,
    launch_image.requirements_unpinned,
    launch_image.argument_rejected,
    launch_image.cuda_without_card,
    launch_image.secret_in_plain,
    launch_image.tasks_share_folder,
)
"""What `vlcheck preflight` adds to the rules of `vlcheck audit`."""


def every_rule() -> tuple[Rule, ...]:
    """The rules of every command."""
    return (*RULES, *LIVE_RULES, *ADAPTER_RULES, *LAUNCH_RULES)


def choose(
    select: Iterable[str] = (), ignore: Iterable[str] = (), *, saved: bool = False, launched: bool = False
) -> tuple[Rule, ...]:
    """The rules whose code (or a prefix of it, `VLC4`) or name is selected and not ignored.

    Args:
        saved: choose among the rules for saved adapters, not among those for runs.
        launched: choose among the rules for a run's job too.

    Raises:
        ValueError: if an entry matches no rule; the message names it and the nearest rule.
    """
    rules = ADAPTER_RULES if saved else (*RULES, *LAUNCH_RULES) if launched else RULES
    return _chosen(select, ignore, rules)


def choose_live(select: Iterable[str] = (), ignore: Iterable[str] = (), *, adapted: bool = True) -> tuple[Rule, ...]:
    """The rules that a running job is held to, selected and ignored as by `choose`.

    Args:
        adapted: the model carries adapters.

    Raises:
        ValueError: as `choose`.
    """
    without = NOT_LIVE if adapted else (*NOT_LIVE, *OF_ADAPTERS)
    return _chosen(select, ignore, (*LIVE_RULES, *(rule for rule in RULES if not rule.code.startswith(without))))


def _chosen(select: Iterable[str], ignore: Iterable[str], rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    selected, ignored = _matching(select, rules), _matching(ignore, rules)
    return tuple(r for r in rules if (not list(select) or r in selected) and r not in ignored)


def matching(entries: Iterable[str], *, saved: bool = False) -> tuple[str, ...]:
    """The entries of a project's list that concern this command's rules; the rest are the other command's.

    Args:
        saved: as for `choose`.

    Raises:
        ValueError: if an entry matches no rule of either.
    """
    listed = tuple(entries)
    for entry in listed:
        if not _hits(entry, every_rule()):
            raise ValueError(_unknown(entry))
    return tuple(entry for entry in listed if _hits(entry, ADAPTER_RULES if saved else RULES))


def severities(graded: Mapping[str, Severity]) -> dict[str, Severity]:
    """Severity by code, from entries as of `choose`; a code or a name outranks a prefix, and a longer prefix a shorter.

    Raises:
        ValueError: if an entry matches no rule.
    """
    matching(graded)
    by_code: dict[str, Severity] = {}
    for entry in sorted(graded, key=lambda entry: len(entry) if entry.upper().startswith("VLC") else 99):
        by_code |= {rule.code: graded[entry] for rule in _hits(entry, every_rule())}
    return by_code


def check_ignores(spec: RunSpec) -> None:
    """Hold the codes that the config's comments ignore against the rules.

    Raises:
        ConfigError: for a code that no rule has, at its comment.
    """
    known = {rule.code for rule in every_rule()}
    unknown = [(ignore.where, code) for ignore in spec.ignores for code in ignore.codes if code not in known]
    if unknown:
        raise ConfigError(*(Problem(where, f"the comment ignores {_unknown(code)}") for where, code in unknown))


def find(entry: str) -> Rule:
    """The one rule with this code or name.

    Raises:
        ValueError: if there is none; the message names the nearest rule.
    """
    for rule in every_rule():
        if entry.upper() == rule.code or entry.lower() == rule.name:
            return rule
    raise ValueError(_unknown(entry))


def _matching(entries: Iterable[str], rules: tuple[Rule, ...]) -> set[Rule]:
    matching: set[Rule] = set()
    for entry in entries:
        hits = _hits(entry, rules)
        if not hits and _hits(entry, every_rule()):
            raise ValueError(f"{entry} belongs to `{_door(entry)}`")
        if not hits:
            raise ValueError(_unknown(entry))
        matching |= hits
    return matching


def _door(entry: str) -> str:
    """Where the rules of an entry are asked."""
    doors = (("vlcheck audit", RULES), ("vlcheck check-adapter", ADAPTER_RULES), ("vlcheck preflight", LAUNCH_RULES),
             ("vlcheck.check_run", LIVE_RULES))  # fmt: skip
    return next(door for door, rules in doors if _hits(entry, rules))


def _hits(entry: str, rules: tuple[Rule, ...]) -> set[Rule]:
    prefix = entry.upper() if entry.upper().startswith("VLC") else ""
    return {r for r in rules if (prefix and r.code.startswith(prefix)) or entry.lower() == r.name}


def _unknown(entry: str) -> str:
    rules = every_rule()
    names = [r.code for r in rules] + [r.name for r in rules]
    near = difflib.get_close_matches(entry, [*names, *map(str.lower, names)], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"no rule {entry!r}{hint} (`vlcheck rules` lists all {len(rules)})"
