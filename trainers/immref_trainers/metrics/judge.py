"""Fréchet distances of samples to real images, in three views, each with its floor."""

from typing import Any

import numpy as np

from immref.miscibility import frechet_distance
from immref_trainers import streams
from immref_trainers.data.digits import Images
from immref_trainers.metrics import features
from immref_trainers.results import Score

FloatArray = np.ndarray[Any, Any]

FLOOR_DRAWS = 5


class Judge:
    """Two feature networks and the real images as they see them.

    The second network and the held-out images guard against a metric that only knows what it was fitted on.
    """

    def __init__(self, images: Images) -> None:
        (self.first, self.accuracy), (self.second, _) = features.fit(images, seed=1), features.fit(images, seed=2)
        self.images = images
        self.train_first, self.train_second = self.first(images.train), self.second(images.train)
        self.held_out = self.first(images.held_out)

    def score(self, samples: FloatArray) -> Score:
        """Compare samples (M, C, H, W), image scaling undone, with the real images."""
        seen = self.first(samples)
        return Score(
            frechet_distance(seen, self.train_first),
            frechet_distance(self.second(samples), self.train_second),
            frechet_distance(seen, self.held_out),
        )

    def floor(self, count: int) -> list[Score]:
        """Scores of `count` training images drawn with replacement: what perfect memorising would get."""
        draws = (
            streams.generator(streams.FEATURES, 0, micro=1 + i).integers(len(self.images.train), size=count) for i in range(FLOOR_DRAWS)
        )
        return [self.score(self.images.train[rows]) for rows in draws]
