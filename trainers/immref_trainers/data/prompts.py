"""What a network is told in words: the prompts of labels, or each image's own captions; a label is the number of a text."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from immref_trainers import streams
from immref_trainers.data.training import Images
from immref_trainers.networks.settings import TextUNet

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Captions:
    """Of N images, as numbers of texts: image i has `number[start[i] : start[i + 1]]`, one or more."""

    start: Array
    number: Array

    def drawn(self, seed: int, index_B: Array, epoch_B: Array | None) -> Array:
        """A caption of each image (B,): drawn by (seed, epoch, index); without epochs the first."""
        first_B = self.start[index_B]
        if epoch_B is not None:
            count_B = self.start[index_B + 1] - first_B
            places = zip(epoch_B.tolist(), index_B.tolist(), count_B.tolist(), strict=True)
            first_B = first_B + [
                streams.generator(streams.CAPTION, seed, epoch, index).integers(count) if count > 1 else 0 for epoch, index, count in places
            ]
        chosen_B: Array = self.number[first_B]
        return chosen_B


@dataclass(frozen=True)
class Prompts:
    """Every text that training may tell.

    Attributes
    ----------
    texts : of label i the i-th
    train, held_out : the captions of the images, where each has its own; None where their labels are told
    """

    texts: tuple[str, ...]
    train: Captions | None = None
    held_out: Captions | None = None


def of_images(settings: TextUNet, images: Images) -> Prompts:
    """The prompts of `images`, or a ValueError where they have neither captions nor named labels, whichever is asked for."""
    if settings.prompt is not None:
        return Prompts(of_labels(settings, images.names))
    numbers: dict[str, int] = {}
    train, held_out = (_numbered(source.captions(np.arange(len(source))), numbers) for source in (images.train, images.held_out))
    return Prompts(tuple(numbers), train, held_out)


def of_labels(settings: TextUNet, names: tuple[str, ...]) -> tuple[str, ...]:
    """The prompt of every label, with the first of its names or all of them."""
    if not names:
        raise ValueError("network.prompt needs images whose labels have names, and these have none; None tells captions")
    assert settings.prompt is not None
    return tuple(settings.prompt.replace("{}", name if settings.synonyms == "all" else name.split(",")[0].strip()) for name in names)


def _numbered(captions: list[tuple[str, ...]] | None, numbers: dict[str, int]) -> Captions:
    """Captions by number; texts that are new are numbered on."""
    if captions is None:
        raise ValueError("network.prompt None needs images with captions, and these have none; see data.caption_column")
    start = np.cumsum([0, *map(len, captions)])
    return Captions(start, np.asarray([numbers.setdefault(text, len(numbers)) for texts in captions for text in texts]))
