"""Amounts as platforms write them."""

from __future__ import annotations

import pytest

from vlcheck.gpus import GIB
from vlcheck.launch import quantities
from vlcheck.launch.image import cuda_of


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        ("seconds", "360m", 21_600), ("seconds", "3600s", 3600), ("seconds", 3600, 3600), ("seconds", "1h30m", 5400),
        ("seconds", "600", 600), ("size", "80Gi", 80 * GIB), ("size", "512M", 512 * 10**6),
        ("size", "1.5Gi", 3 * GIB // 2),
        ("size", 1024, 1024), ("gibibytes", "32+", 32 * GIB), ("gibibytes", 16, 16 * GIB), ("mebibytes", 2048, 2 * GIB),
        ("cpus", "4000m", 4), ("cpus", "8+", 8), ("cpus", 30.0, 30), ("whole", "3", 3), ("number", "1.5", 1.5),
    ],
)  # fmt: skip
def test_an_amount_is_understood(kind, written, meant):
    assert getattr(quantities, kind)(written) == meant


@pytest.mark.parametrize("kind", ["seconds", "size", "cpus", "whole", "number", "text", "switch"])
@pytest.mark.parametrize("written", ["", "much", "-3", [], {}, True, None, float("nan"), float("inf"), "9" * 400])
def test_what_is_no_amount_is_refused(kind, written):
    if kind == "text" and isinstance(written, str | float) and written != "":
        return
    if kind == "switch" and written is True:
        return
    with pytest.raises(ValueError, match="allowed: "):
        getattr(quantities, kind)(written)


@pytest.mark.parametrize(
    ("image", "cuda"),
    [
        ("nvidia/cuda:12.8.0-runtime-ubuntu24.04", (12, 8)),
        ("pytorch/pytorch:2.7.0-cuda12.6-cudnn9-runtime", (12, 6)),
        ("runpod/pytorch:2.8.0-py3.11-cuda12.8.1", (12, 8)),
        ("ghcr.io/x/train:cu118", (11, 8)),
        ("python:3.12-slim", None),
        ("acme/cucumber:12", None),
    ],
)
def test_an_image_tells_its_cuda(image, cuda):
    assert cuda_of(image) == cuda
