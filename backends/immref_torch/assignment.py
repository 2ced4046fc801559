"""Batch-wise linear assignment on torch: on the CPU the reference's code, on an accelerator its auction stays there."""

from torch import Tensor

from immref import assignment
from immref_torch import auction


def assign_batch(x_BD: Tensor, noise_BD: Tensor, cost: str, solver: str) -> tuple[Tensor, Tensor, Tensor, float]:
    """As the reference; 'auction' moves only the rows that it leaves over to the host, 'auto' all gains and the prices."""
    if x_BD.device.type == "cpu" or solver == "scipy" or len(x_BD) <= assignment.SMALL:
        index_B, before_B, after_B, gap = assignment.assign_batch(x_BD, noise_BD, cost, solver)
        return index_B, before_B, after_B, gap
    index_B, before_B, after_B, gap = assignment.auctioned(x_BD, noise_BD, cost, solver, auction.run)
    return index_B, before_B, after_B, gap
