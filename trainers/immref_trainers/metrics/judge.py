"""Fréchet distances of samples to real images, in several views, each with its floor; and whether samples are copies."""

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from immref.miscibility import frechet_distance
from immref_trainers import streams
from immref_trainers.config import Run
from immref_trainers.data import prompts
from immref_trainers.data.settings import CaptionedDigits, Digits
from immref_trainers.data.training import Images, Source, chunks, pieces
from immref_trainers.metrics import features, inception, tasks
from immref_trainers.networks.settings import TextUNet
from immref_trainers.results import Nearness, Score

if TYPE_CHECKING:
    from immref_trainers.metrics.clip import Clip

FloatArray = np.ndarray[Any, Any]

CPU = torch.device("cpu")
FLOOR_DRAWS = 5
REFERENCE = 50_000  # training images that samples are compared with at most
LOOKED_AT = 2_000  # samples, and held-out images, whose nearest training image is looked for
COPY = 0.01  # a sample nearer to a training image than this share of held-out images counts as a copy


class Judge:
    """Two feature networks and the real images as they see them; where samples are asked for in words, a CLIP model on `device`.

    The second network and the held-out images guard against a metric that only knows what it was fitted on.
    """

    def __init__(self, images: Images, run: Run, device: torch.device = CPU) -> None:
        if run.evaluation.inception_weights is not None:
            self.first = inception.load(run.evaluation.inception_weights, images)
            self.second = tasks.fit(images, seed=2)
        else:
            fit = features.fit if isinstance(run.data, Digits | CaptionedDigits) else tasks.fit
            self.first, self.second = fit(images, seed=1), fit(images, seed=2)
        self.name, self.quality, self.images = self.first.name, self.first.quality, images
        self.by_class = True
        self.texts: tuple[str, ...] = ()
        self.clip: Clip | None = None
        if isinstance(run.network, TextUNet):
            self._read_prompts(run, run.network, device)
        self.train_first = gathered(images.train, lambda index: self.first.see(images.train.images(index)))
        self.train_second = gathered(images.train, lambda index: self.second.see(images.train.images(index)))
        self.held_out = gathered(images.held_out, lambda index: self.first.see(images.held_out.images(index)))

    def score(self, samples: FloatArray, labels: FloatArray | None = None) -> Score:
        """Compare samples (M, C, H, W), image scaling undone, with the real images; `labels` are those that were asked for."""
        return self.score_pieces([(samples, labels)])

    def score_pieces(self, pieces: Iterable[tuple[FloatArray, FloatArray | None]]) -> Score:
        """`score` of samples that come piece by piece, and are not kept."""
        seen, otherwise, asked, right, similar = [], [], [], [], []
        for samples, labels in pieces:
            seen.append(self.first.see(samples))
            otherwise.append(self.second.see(samples))
            if labels is not None and self.by_class:
                asked.append(labels)
                right += [] if self.first.label is None else [self.first.label(samples) == labels]
            if labels is not None and self.clip is not None:
                similar.append(self.clip.similarity(samples, [self.texts[label] for label in labels]))
        seen_MF = np.concatenate(seen)
        return Score(
            frechet_distance(seen_MF, self.train_first),
            frechet_distance(np.concatenate(otherwise), self.train_second),
            frechet_distance(seen_MF, self.held_out),
            float(np.mean(np.concatenate(right))) if right else None,
            self._within(seen_MF, np.concatenate(asked)) if asked else None,
            float(np.mean(np.concatenate(similar))) if similar else None,
        )

    def floor(self, count: int) -> list[Score]:
        """Scores of `count` training images drawn with replacement: what perfect memorising would get."""
        generators = (streams.generator(streams.FEATURES, 0, micro=1 + number) for number in range(FLOOR_DRAWS))
        rows = (generator.integers(len(self.images.train), size=count) for generator in generators)
        return [self.score_pieces((self.images.train.images(part), None) for part in pieces(drawn)) for drawn in rows]

    def nearest(self, samples: FloatArray) -> Nearness:
        """How far samples (M, C, H, W) are from the nearest training image, beside how far held-out images are."""
        found, unseen = self._nearest(samples[:LOOKED_AT]), self._nearest_held_out
        return Nearness(float(np.median(found)), float(np.median(unseen)), float(np.mean(found < np.quantile(unseen, COPY))))

    def _read_prompts(self, run: Run, network: TextUNet, device: torch.device) -> None:
        """What samples of a network told in words are asked for by, and the CLIP model that compares them with it, where there is one."""
        from immref_trainers.metrics.clip import Clip
        from immref_trainers.stable_diffusion import pipeline

        self.by_class, self.texts = network.prompt is not None, prompts.of_images(network, self.images).texts
        beside = pipeline.folder_of(run, self.images) / "clip"
        if run.evaluation.clip is not None or beside.is_dir():
            self.clip = Clip(Path(run.evaluation.clip or beside), device)

    @cached_property
    def _nearest_held_out(self) -> FloatArray:
        count = min(LOOKED_AT, len(self.images.held_out))
        return self._nearest(self.images.held_out.images(np.arange(count)))

    def _nearest(self, samples: FloatArray) -> FloatArray:
        """L2 distance of each sample to its nearest training image, in the values of the images."""
        flat = torch.from_numpy(samples.reshape(len(samples), -1))
        best = torch.full((len(flat),), torch.inf)
        for index in chunks(self.images.train, REFERENCE):
            real = torch.from_numpy(self.images.train.images(index).reshape(len(index), -1))
            best = torch.minimum(best, torch.cdist(flat, real).min(dim=1).values)
        return best.numpy()

    @cached_property
    def _train_labels(self) -> FloatArray:
        return gathered(self.images.train, self.images.train.labels)

    def _within(self, seen: FloatArray, labels: FloatArray) -> float | None:
        """Mean distance of a label's samples to its training images, over labels with more of both than there are features."""
        parts = [(seen[labels == one], self.train_first[self._train_labels == one]) for one in np.unique(labels)]
        enough = [frechet_distance(*part) for part in parts if min(map(len, part)) > seen.shape[1]]
        return float(np.mean(enough)) if enough else None


def gathered(source: Source, what: Callable[[FloatArray], Any]) -> FloatArray:
    """What each of the first `REFERENCE` images has, a piece after the other."""
    return np.concatenate([what(index) for index in chunks(source, REFERENCE)])
