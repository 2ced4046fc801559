"""Batch-wise linear assignment on CuPy: the gains by one matrix product, the auction by kernels, the rest exactly on the host."""

from immref import assignment
from immref_cupy import auction
from immref_cupy.arrays import Array


def assign_batch(x_BD: Array, noise_BD: Array, cost: str, solver: str) -> tuple[Array, Array, Array, float]:
    """As the reference; 'auction' moves only the rows that it leaves over to the host, 'auto' all gains and the prices."""
    if solver == "scipy" or x_BD.shape[0] <= assignment.SMALL:
        index_B, before_B, after_B, gap = assignment.assign_batch(x_BD, noise_BD, cost, solver)
        return index_B, before_B, after_B, gap
    index_B, before_B, after_B, gap = assignment.auctioned(x_BD, noise_BD, cost, solver, auction.run)
    return index_B, before_B, after_B, gap
