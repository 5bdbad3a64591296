"""What becomes of copies of tied weights that `modules_to_save` trains: VLC409 and VLC707 say it."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from tests import tiny

IDS = torch.arange(8, 32).reshape(2, 12)


def base():
    torch.manual_seed(0)
    values = {key: value for key, value in tiny.gemma3().items() if key not in ("model_type", "architectures")}
    return Gemma3ForConditionalGeneration(Gemma3Config(**copy.deepcopy(values))).float()


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, token_type_ids=torch.zeros_like(IDS)).logits


@pytest.mark.parametrize("ensured", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nothing_is_lost_but_the_tie(tmp_path, ensured):
    """Trained, saved, loaded, merged, saved and loaded: the same model; one weight only where that was ensured."""
    asked = LoraConfig(
        r=4, target_modules="all-linear", modules_to_save=["lm_head", "embed_tokens"], ensure_weight_tying=ensured
    )
    model = get_peft_model(base(), asked)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        model.train()(input_ids=IDS, labels=IDS, token_type_ids=torch.zeros_like(IDS)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = logits(model)
    copies = [name for name, _ in model.named_parameters() if "modules_to_save" in name]
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(base(), tmp_path / "adapter")
    assert torch.equal(logits(loaded), trained)
    merged = loaded.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    whole = Gemma3ForConditionalGeneration.from_pretrained(tmp_path / "merged")

    assert not torch.allclose(logits(base()), trained, atol=1e-2)
    assert torch.allclose(logits(whole), trained, atol=1e-4)
    one = whole.get_input_embeddings().weight.data_ptr() == whole.get_output_embeddings().weight.data_ptr()
    assert (len(copies), one, merged.config.tie_word_embeddings) == ((1, True, True) if ensured else (2, False, False))
