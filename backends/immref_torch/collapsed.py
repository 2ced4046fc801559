"""KNN at the price of one noise on torch; the mathematics is told in `immref.collapsed`."""

import torch
from torch import Tensor
from torch.linalg import vecdot


def collapse(x_BD: Tensor, g_BD: Tensor, a_BK: Tensor, s_BK: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As the reference; the result is built in one allocation."""
    real, count = a_BK.dtype, a_BK.shape[1] + 1
    xx_B, xg_B, gg_B = vecdot(x_BD, x_BD).to(real), vecdot(x_BD, g_BD).to(real), vecdot(g_BD, g_BD).to(real)
    norm_B = xx_B.sqrt()
    null_B = norm_B == 0
    safe_B = norm_B + null_B
    a0_B = xg_B / safe_B
    first_B1 = (gg_B - 2 * xg_B + xx_B)[:, None]
    squared_BK = torch.cat([first_B1, (a_BK - norm_B[:, None]).square_().add_(s_BK)], dim=1)
    least_B1 = squared_BK.amin(1, keepdim=True)
    index_B = torch.where(squared_BK <= least_B1, torch.arange(count, device=x_BD.device), count).amin(1) % count
    nearest_B = squared_BK.gather(1, index_B[:, None])[:, 0]
    kept_B = index_B == 0
    if count == 1:
        return g_BD.clone(), index_B, nearest_B.sqrt(), nearest_B.sqrt()

    row_B1 = (index_B - 1).clamp_(min=0)[:, None]
    aJ_B = a_BK.gather(1, row_B1)[:, 0].masked_fill_(null_B, 0)
    sJ_B = torch.where(null_B, nearest_B, s_BK.gather(1, row_B1)[:, 0])
    stretch_B = (sJ_B / (gg_B - a0_B * a0_B)).sqrt_().masked_fill_(kept_B, 1)
    shift_B = ((aJ_B - stretch_B * a0_B) / safe_B).masked_fill_(kept_B, 0)
    noise_BD = x_BD * shift_B.to(x_BD.dtype)[:, None]
    noise_BD.addcmul_(g_BD, stretch_B.to(x_BD.dtype)[:, None])
    return noise_BD, index_B, first_B1[:, 0].sqrt(), nearest_B.sqrt()
