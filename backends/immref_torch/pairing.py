"""KNN among given candidates on torch: a running best, one candidate of each image in memory at a time."""

import torch
from torch import Tensor
from torch.linalg import vecdot, vector_norm


def nearest_candidate(x_BD: Tensor, noise_BKD: Tensor, score: str) -> tuple[Tensor, Tensor, Tensor]:
    """As the reference; distances by one fused norm."""
    chosen_B = torch.zeros(x_BD.shape[0], dtype=torch.int64, device=x_BD.device)
    for candidate in range(noise_BKD.shape[1]):
        distance_B = vector_norm(noise_BKD[:, candidate] - x_BD, dim=1)
        score_B = distance_B if score == "l2" else -vecdot(x_BD, noise_BKD[:, candidate])
        score_B = score_B.where(score_B.isfinite(), torch.nan)
        if candidate == 0:
            least_B, before_B, after_B = score_B, distance_B, distance_B
            continue
        better_B = (score_B < least_B) | score_B.isnan()
        chosen_B = torch.where(better_B, candidate, chosen_B)
        least_B = torch.where(better_B, score_B, least_B)
        after_B = torch.where(better_B, distance_B, after_B)
    return chosen_B, before_B, torch.where(least_B.isnan(), least_B, after_B)
