"""What only torch has: autocast, gradients, bfloat16. Skipped for subjects whose arrays are not torch's."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import immref
from immref import KNN, LinearAssignment, Pairing, Seed
from immref_spec import compare
from immref_spec.subjects import Subject

METHODS = (Pairing(), KNN(4), LinearAssignment(), LinearAssignment("sqeuclidean"))


def torch_of(subject: Subject) -> ModuleType:
    """The torch module, where the subject's arrays are tensors."""
    if type(images(subject)).__module__.partition(".")[0] != "torch":
        pytest.skip(f"{subject.name} has no torch tensors: nothing to say about autocast and gradients")
    import torch

    return torch


def images(subject: Subject, dimension: int = 70) -> Any:
    """A batch of images."""
    return subject.asarray(np.random.default_rng(0).standard_normal((24, dimension)).astype(np.float32))


@pytest.mark.parametrize("dimension", [6, 70])
def test_autocast_changes_nothing(subject: Subject, dimension: int) -> None:
    """Inside torch.autocast in bfloat16 every result equals the one outside, bit for bit."""
    torch, x = torch_of(subject), images(subject, dimension)
    for method in METHODS:
        outside = immref.pair(x, method, rng=Seed(0), backend=subject.backend)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            inside = immref.pair(x, method, rng=Seed(0), backend=subject.backend)
        for field in ("noise", "index", "before", "after"):
            cast, plain = (subject.asnumpy(getattr(paired, field)) for paired in (inside, outside))
            compare.same_bits(cast, plain, f"{field} of {method} inside autocast")


def test_noise_carries_no_gradient(subject: Subject) -> None:
    """x may require gradients: the noise does not, and scaling lets them through."""
    torch_of(subject)
    x = images(subject).requires_grad_()
    for method in METHODS:
        paired = immref.pair(x, method, rng=Seed(0), backend=subject.backend)
        found = [getattr(paired, field).requires_grad for field in ("noise", "before", "after")]
        compare.same(found, [False] * 3, f"requires_grad of noise, before and after of {method}")
    immref.pair(x, KNN(2, scale=3.0), rng=Seed(0), backend=subject.backend).x.sum().backward()
    compare.holds(bool((x.grad == 3).all()), "the gradient through scale must be the factor")


def test_bfloat16_is_float32_rounded(subject: Subject) -> None:
    """bfloat16 images get the noise that the same images get in float32, rounded."""
    torch, x = torch_of(subject), images(subject)
    half = x.to(torch.bfloat16)
    for method in METHODS:
        paired, wide = (immref.pair(v, method, rng=Seed(0), backend=subject.backend) for v in (half, half.float()))
        compare.same(paired.noise.dtype, torch.bfloat16, f"dtype of the noise of {method}")
        rounded = wide.noise.to(torch.bfloat16)
        compare.holds(bool((paired.noise == rounded).all()), f"noise of {method} in bfloat16 must be float32's, rounded")
