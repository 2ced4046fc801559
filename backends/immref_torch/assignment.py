"""Batch-wise linear assignment on torch: on the CPU the reference's code, on an accelerator its auction stays there."""

import math

import torch
from torch import Tensor

from immref import assignment
from immref.pairing import distances
from immref_torch import auction


def assign_batch(x_BD: Tensor, noise_BD: Tensor, cost: str, solver: str) -> tuple[Tensor, Tensor, Tensor, float]:
    """As the reference; 'auction' moves only the rows that it leaves over to the host, 'auto' all gains and the prices."""
    if x_BD.device.type == "cpu" or solver == "scipy" or len(x_BD) <= assignment.SMALL:
        index_B, before_B, after_B, gap = assignment.assign_batch(x_BD, noise_BD, cost, solver)
        return index_B, before_B, after_B, gap
    return auctioned(x_BD, noise_BD, cost, solver)


def auctioned(x_BD: Tensor, noise_BD: Tensor, cost: str, solver: str) -> tuple[Tensor, Tensor, Tensor, float]:
    """The permutation by an auction on the device; gains that are not finite yield the identity and a gap of NaN."""
    gain_BB = assignment.gains(x_BD, noise_BD, cost)
    index_B, gap = torch.arange(len(x_BD), device=x_BD.device), math.nan
    if bool(gain_BB.abs().max() <= torch.finfo(gain_BB.dtype).max / 16):
        index_B, gap = assignment.finish(gain_BB, *auction.run(gain_BB), solver)
    return index_B, distances(x_BD, noise_BD), distances(x_BD, noise_BD[index_B]), gap
