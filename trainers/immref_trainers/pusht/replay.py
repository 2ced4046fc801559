"""Demonstrations on the disk: the original zarr replay buffer, as a folder or zipped, and LeRobot's parquet files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from datasets import Dataset, load_dataset
from zarr.storage import ZipStore

from immref_trainers.pusht.simulator import SIDE, keypoints

Array = np.ndarray[Any, Any]

MARGIN = 20.0  # pixels beyond the table that are borne; and the least that all positions together span
POSES_APART = 2.0  # pixels by which corners may differ from those of the T that fits them


@dataclass(frozen=True)
class Episodes:
    """E episodes, one after the other.

    Attributes
    ----------
    states : (N, 5), agent (x, y) and the T's (x, y, angle)
    actions : (N, 2), where the agent was told to go, in pixels
    ends : (E,), the number of steps after each episode
    """

    states: Array
    actions: Array
    ends: Array

    def __len__(self) -> int:
        return len(self.ends)

    def spans(self) -> Iterator[tuple[int, int]]:
        """First step, and the step after the last, of each."""
        return zip([0, *self.ends[:-1].tolist()], self.ends.tolist(), strict=True)


def load(folder: Path) -> Episodes:
    """The episodes in `folder`; a ValueError says what is wrong with them and what is wanted."""
    wanted = "data.train_data_dir must hold demonstrations, a zarr replay buffer (a folder or .zip) or LeRobot's parquet files"
    if not folder.exists():
        raise ValueError(f"{wanted}, and {folder} does not exist")
    if folder.suffix == ".zip" or (folder / ".zgroup").exists() or (folder / "zarr.json").exists():
        return checked(from_zarr(folder), folder)
    files = sorted(folder.glob("data/**/*.parquet")) if folder.is_dir() else []
    if not files:
        raise ValueError(f"{wanted}, and {folder} holds none")
    return checked(from_parquet(files), folder)


def from_zarr(folder: Path) -> Episodes:
    """`data/state`, `data/action` and `meta/episode_ends`."""
    try:
        store = ZipStore(folder, mode="r") if folder.suffix == ".zip" else str(folder)
        group = zarr.open_group(store, mode="r")
        return Episodes(*(np.asarray(group[name]) for name in ("data/state", "data/action", "meta/episode_ends")))
    except KeyError as error:
        raise ValueError(f"{folder} must have data/state, data/action and meta/episode_ends, and lacks {error}") from error
    except Exception as error:
        raise ValueError(f"{folder} cannot be read as a zarr replay buffer: {error}") from error


def from_parquet(files: list[Path]) -> Episodes:
    """LeRobot's columns, in either layout of its files: the T's pose is found from its corners."""
    table = load_dataset("parquet", data_files=[str(file) for file in files], split="train")
    assert isinstance(table, Dataset)
    columns = ("observation.state", "observation.environment_state", "action", "episode_index", "frame_index")
    if lacking := [name for name in columns if name not in table.column_names]:
        raise ValueError(f"{files[0].parent} must have the columns {', '.join(columns)}, and lacks {', '.join(lacking)}")
    agent, corners, actions, episode, frame = (np.asarray(table[name]) for name in columns)
    order = np.lexsort((frame, episode))
    ends = np.flatnonzero(np.diff(episode[order])) + 1
    states = np.concatenate([agent[order], poses(corners[order].reshape(len(order), -1, 2))], axis=1)
    return Episodes(states, actions[order], np.append(ends, len(order)))


def poses(corners: Array) -> Array:
    """The poses (N, 3) of Ts with these corners (N, 8, 2)."""
    if corners.shape[1:] != (8, 2):
        raise ValueError(f"observation.environment_state must hold the T's 8 corners, 16 numbers, got {corners[0].size}")
    along = corners[:, 1] - corners[:, 0]
    found = np.concatenate([corners[:, :2].mean(axis=1), np.arctan2(along[:, 1], along[:, 0])[:, None]], axis=1)
    apart = float(np.abs(keypoints(found) - corners).max())
    if apart > POSES_APART:
        raise ValueError(f"observation.environment_state must hold the corners of gym-pusht's T, got corners {apart:.0f} pixels from it")
    return found


def checked(episodes: Episodes, folder: Path) -> Episodes:
    """The same; a ValueError where they are none that a policy could learn from."""
    states, actions, ends = episodes.states, episodes.actions, episodes.ends
    for name, array, width in (("states", states, 5), ("actions", actions, 2)):
        if array.ndim != 2 or array.shape[1] != width or not len(array):
            raise ValueError(f"{folder}: {name} must have shape (N, {width}), got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{folder}: {name} must be finite, row {np.flatnonzero(~np.isfinite(array).all(axis=1))[0]} is not")
    where = np.concatenate([states[:, :2].ravel(), actions.ravel()])
    if where.min() < -MARGIN or where.max() > SIDE + MARGIN or np.ptp(where) < MARGIN:
        wanted = f"the agent's positions and actions must be pixels in [0, {SIDE:.0f}]"
        raise ValueError(f"{folder}: {wanted}, got numbers in [{where.min():.3g}, {where.max():.3g}]")
    if len(states) != len(actions):
        raise ValueError(f"{folder}: states and actions must be as many, got {len(states)} and {len(actions)}")
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or not len(ends) or (np.diff(ends.astype(np.int64), prepend=0) <= 0).any():
        raise ValueError(f"{folder}: episode_ends must be integers that increase from above 0, got {ends[:8]}")
    if ends[-1] != len(states):
        raise ValueError(f"{folder}: episode_ends must end at the number of steps, {len(states)}, got {ends[-1]}")
    return Episodes(states.astype(np.float32), actions.astype(np.float32), ends.astype(np.int64))


def save(episodes: Episodes, folder: Path) -> None:
    """Write the original layout, zarr's version 2."""
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    for name, array in (("data/state", episodes.states), ("data/action", episodes.actions), ("meta/episode_ends", episodes.ends)):
        group.create_array(name, data=array)
