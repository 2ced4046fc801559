"""Recipes on scikit-learn's 1,797 handwritten digits: real data that is already on the disk."""

from immref import KNN, ImageScaling, LinearAssignment, Vanilla
from immref_trainers.config import Run

PAIRINGS = (
    Vanilla(),  #           the paper reports nothing on digits
    KNN(k=4),  #            its best k for flow matching on CIFAR-10 (Table 4)
    LinearAssignment(),  #  Section 3.3.1
    ImageScaling(2.0),  #   Section 3.3.3
)


def flow() -> Run:
    """Flow matching with a 160k-parameter UNet."""
    return Run(recipe="digits-flow")
