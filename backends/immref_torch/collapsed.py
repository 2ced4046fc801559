"""KNN at the price of one noise on torch; the mathematics is told in `immref.collapsed`."""

import torch
from torch import Tensor
from torch.linalg import vecdot, vector_norm

PIECE = 2**18  # numbers whose products are held at a time on the CPU


def inner(x_BD: Tensor, g_BD: Tensor) -> Tensor:
    """<x, g> of each row; torch's vecdot holds all products, so on the CPU it gets a few rows at a time."""
    if x_BD.device.type != "cpu":
        products_B: Tensor = vecdot(x_BD, g_BD)
        return products_B
    rows = max(1, PIECE // x_BD.shape[1])
    return torch.cat([vecdot(x_RD, g_RD) for x_RD, g_RD in zip(x_BD.split(rows), g_BD.split(rows), strict=True)])


def collapse(x_BD: Tensor, g_BD: Tensor, a_BK: Tensor, s_BK: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As the reference; on the CPU nothing of the size of the noise is allocated."""
    real = a_BK.dtype
    norm_B, length_B, xg_B = (v.to(real) for v in (vector_norm(x_BD, dim=1), vector_norm(g_BD, dim=1), inner(x_BD, g_BD)))
    gg_B = length_B.square()
    null_B = norm_B == 0
    safe_B = norm_B + null_B
    a0_B = xg_B / safe_B
    first_B1 = (gg_B - 2 * xg_B + norm_B.square())[:, None]
    squared_BK = torch.cat([first_B1, (a_BK - norm_B[:, None]).square_().add_(s_BK)], dim=1)
    index_B = squared_BK.argmin(1)
    nearest_B = squared_BK.gather(1, index_B[:, None])[:, 0]
    kept_B = (index_B == 0) & ~nearest_B.isnan()
    if a_BK.shape[1] == 0:
        return g_BD, index_B, nearest_B.sqrt(), nearest_B.sqrt()

    row_B1 = (index_B - 1).clamp_(min=0)[:, None]
    aJ_B = a_BK.gather(1, row_B1)[:, 0].masked_fill_(null_B, 0)
    sJ_B = torch.where(null_B, nearest_B, s_BK.gather(1, row_B1)[:, 0])
    stretch_B = (sJ_B / (gg_B - a0_B * a0_B)).sqrt_().masked_fill_(kept_B, 1)
    shift_B = ((aJ_B - stretch_B * a0_B) / safe_B).masked_fill_(kept_B, 0)
    g_BD.mul_(stretch_B.to(x_BD.dtype)[:, None]).addcmul_(x_BD, shift_B.to(x_BD.dtype)[:, None])
    return g_BD, index_B, first_B1[:, 0].sqrt(), nearest_B.sqrt()
