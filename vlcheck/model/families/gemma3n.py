"""Gemma 3n: E2B, E4B. Parts only.

Read from transformers 5.23, `models/gemma3n`. Its vision tower is a MobileNet from `timm`, which vlcheck
does not require: without that package transformers builds no Gemma 3n, and an audit ends with its message.
With it the parts below are told apart, but nothing here was run, and there is no tiny run.
"""

from __future__ import annotations

from vlcheck.model.family import Family, Part

FAMILY = Family(
    name="Gemma 3n",
    model_types=("gemma3n",),
    parts={
        "model.vision_tower": Part.VISION,
        "model.embed_vision": Part.PROJECTOR,
        "model.audio_tower": Part.AUDIO,
        "model.embed_audio": Part.AUDIO,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    doubt="Gemma 3n was never built where vlcheck was written: its parts are read from the source alone",
)
