"""FID's Inception network, from the package torch-fidelity and a local file of weights. Its path is not run by the tests.

torch-fidelity needs torchvision, which not every build of torch can import.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from immref_trainers.data.training import Images
from immref_trainers.metrics.features import Features

FloatArray = np.ndarray[Any, Any]

LAYER = "2048"
CHUNK = 64


def load(weights: str, images: Images) -> Features:
    """The 2,048 features of FID's Inception; samples go in as bytes, and it resizes them itself."""
    if not Path(weights).is_file():
        raise ValueError(f"evaluation.inception_weights must be a file with the weights of FID's Inception, got {weights}")
    if find_spec("torch_fidelity") is None:
        raise ValueError("evaluation.inception_weights needs torch-fidelity: pip install 'immref[fid]'")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("inception-v3-compat", [LAYER], feature_extractor_weights_path=weights).eval()

    def see(samples: FloatArray) -> FloatArray:
        pixels = torch.from_numpy(as_bytes(images, samples))
        with torch.no_grad():
            return np.concatenate([network(part)[0].numpy() for part in pixels.split(CHUNK)]).astype(np.float64)

    return Features("the 2,048 features of FID's Inception", f"weights {Path(weights).name}", see, None)


def as_bytes(images: Images, samples: FloatArray) -> FloatArray:
    """Samples as RGB bytes (N, 3, H, W): grey is repeated."""
    pixels = images.pixels(samples)
    return np.repeat(pixels, 3 // pixels.shape[1], axis=1)
