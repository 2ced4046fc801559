"""KNN at the price of one noise on torch; the mathematics is told in `immref.collapsed`."""

import torch
from torch import Tensor
from torch.linalg import vecdot


def collapse(x_BD: Tensor, g_BD: Tensor, a_BK: Tensor, s_BK: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As the reference; the result is built in one allocation."""
    real = a_BK.dtype
    xx_B, xg_B, gg_B = vecdot(x_BD, x_BD).to(real), vecdot(x_BD, g_BD).to(real), vecdot(g_BD, g_BD).to(real)
    norm_B = xx_B.sqrt()
    null_B = norm_B == 0
    safe_B = torch.where(null_B, 1.0, norm_B)
    a0_B = xg_B / safe_B
    s0_B = gg_B - a0_B**2
    s_BK = torch.cat([s0_B[:, None], torch.where(null_B[:, None], a_BK**2 + s_BK, s_BK)], dim=1)
    a_BK = torch.cat([a0_B[:, None], torch.where(null_B[:, None], 0.0, a_BK)], dim=1)
    squared_BK = (a_BK - norm_B[:, None]) ** 2 + s_BK

    count = squared_BK.shape[1]
    least_BK = torch.where(squared_BK <= squared_BK.amin(1, keepdim=True), torch.arange(count, device=x_BD.device), count)
    index_B = least_BK.amin(1) % count
    aJ_B, sJ_B, nearest_B = (v.gather(1, index_B[:, None])[:, 0] for v in (a_BK, s_BK, squared_BK))
    stretch_B = torch.where(index_B == 0, 1.0, (sJ_B / s0_B).sqrt())
    shift_B = (aJ_B - stretch_B * a0_B) / safe_B
    noise_BD = x_BD * shift_B.to(x_BD.dtype)[:, None]
    noise_BD.addcmul_(g_BD, stretch_B.to(x_BD.dtype)[:, None])
    return noise_BD, index_B, squared_BK[:, 0].sqrt(), nearest_B.sqrt()
