"""GLM-4.1V, and GLM-4.5V with experts. Parts only.

Read from transformers 5.23, `models/glm4v` and `models/glm4v_moe`. The projector lies in the tower: a convolution that
joins 2 x 2 patches, `downsample`, and `merger`. There is no tiny run, and the processor was not read.
"""

from __future__ import annotations

from vlcheck.model.family import Family, Part

DOUBT = "GLM-4V: parts are read from the model's source, and no gradient was measured"

FAMILY = Family(
    name="GLM-4.1V",
    model_types=("glm4v",),
    parts={
        "model.visual": Part.VISION,
        "model.visual.downsample": Part.PROJECTOR,
        "model.visual.merger": Part.PROJECTOR,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    soft_token_side=28,
    doubt=DOUBT,
)

MIXTURE = Family(
    name="GLM-4.5V",
    model_types=("glm4v_moe",),
    parts=FAMILY.parts,
    part_classes={"Glm4vMoeTextTopkRouter": Part.ROUTER, "Glm4vMoeTextExperts": Part.EXPERTS},
    soft_token_side=28,
    doubt=DOUBT,
)
