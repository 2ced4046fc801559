"""KNN among given candidates on torch: a running best, one candidate of each image in memory at a time."""

import torch
from torch import Tensor


def nearest_candidate(x_BD: Tensor, noise_BKD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the reference; distances by one fused norm."""
    before_B = after_B = torch.linalg.vector_norm(noise_BKD[:, 0] - x_BD, dim=1)
    index_B = torch.zeros(x_BD.shape[0], dtype=torch.int64, device=x_BD.device)
    for candidate in range(1, noise_BKD.shape[1]):
        distance_B = torch.linalg.vector_norm(noise_BKD[:, candidate] - x_BD, dim=1)
        closer_B = (distance_B < after_B) | distance_B.isnan()
        index_B = torch.where(closer_B, candidate, index_B)
        after_B = torch.where(closer_B, distance_B, after_B)
    return index_B, before_B, after_B
