"""`immref bench`: what pairing costs on this machine, every contestant side by side, and the paper's Table 5 beside it."""
