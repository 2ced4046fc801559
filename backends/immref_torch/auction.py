"""The Jacobi auction on an accelerator: every row bids in every round, shapes never change, and the host waits once in 16 rounds."""

import torch
from torch import Tensor

from immref.auction import MOST_ROUNDS, ROUNDS_A_LOOK, run_on_device


def run(gain_BB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the reference's; of equal bids the last row's wins."""
    taken_B, owner_B, price_B = run_on_device(gain_BB, phase)
    return taken_B, owner_B, price_B


def phase(gain_BB: Tensor, price_B: Tensor, eps: Tensor, left: float) -> tuple[Tensor, Tensor]:
    """One auction from `price_B`, which it raises in place."""
    count = len(price_B)
    owner_B = torch.full((count,), -1, device=price_B.device)
    taken_S = torch.full((count + 1,), -1, device=price_B.device)  # the last place takes what has no row
    for _ in range(0, MOST_ROUNDS, ROUNDS_A_LOOK):
        for _ in range(ROUNDS_A_LOOK):
            bid(gain_BB, price_B, eps, taken_S, owner_B)
        if int((taken_S[:-1] < 0).sum()) <= left * count:
            break
    return taken_S[:-1], owner_B


def bid(gain_BB: Tensor, price_B: Tensor, eps: Tensor, taken_S: Tensor, owner_B: Tensor) -> None:
    """One round, in place: rows without a column bid, columns go to the highest bid, their former rows are free."""
    place_B = torch.arange(len(price_B), device=price_B.device)  # of a row, or of a column
    free_B = taken_S[:-1] < 0
    value_BB = gain_BB - price_B
    top_B1, best_B1 = value_BB.max(dim=1, keepdim=True)
    second_B = value_BB.scatter_(1, best_B1, -torch.inf).amax(dim=1)
    best_B = best_B1[:, 0]
    offer_B = torch.where(free_B, price_B[best_B] + (top_B1[:, 0] - second_B) + eps, -torch.inf)
    highest_B = torch.full_like(price_B, -torch.inf).scatter_reduce_(0, best_B, offer_B, "amax")
    winning_B = torch.where(free_B & (offer_B == highest_B[best_B]), place_B, -1)
    winner_B = torch.full_like(owner_B, -1).scatter_reduce_(0, best_B, winning_B, "amax")
    sold_B = winner_B >= 0
    nowhere = len(price_B)
    taken_S[torch.where(sold_B & (owner_B >= 0), owner_B, nowhere)] = -1
    taken_S[torch.where(sold_B, winner_B, nowhere)] = place_B
    owner_B.copy_(torch.where(sold_B, winner_B, owner_B))
    price_B.copy_(torch.where(sold_B, highest_B, price_B))
