"""PushT in the real simulator: the copy of its world, the planner, its demonstrations in every format, and what a policy sees of them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import datasets
import numpy as np
import pytest
import zarr
from gym_pusht.envs.pusht import PushTEnv

from immref_trainers.data.settings import PushT
from immref_trainers.pusht import chunks, demonstrations, planner, replay, simulator
from immref_trainers.pusht.chunks import Limits
from immref_trainers.pusht.replay import Episodes
from immref_trainers.pusht.simulator import Simulator

NEAR = PushT(starts="near", episodes=4, held_out=1)


@pytest.fixture(scope="module")
def planned():
    """Two episodes whose executed actions are those recorded."""
    return [planner.episode(seed, True, 0.0) for seed in (0, 3)]


@pytest.fixture(scope="module")
def episodes():
    """Three pretended ones of 20, 31 and 16 steps."""
    generator, steps = np.random.default_rng(0), 67
    states = np.concatenate([generator.uniform(50, 450, (steps, 4)), generator.uniform(-3, 3, (steps, 1))], axis=1)
    return Episodes(states.astype(np.float32), generator.uniform(0, 512, (steps, 2)).astype(np.float32), np.asarray([20, 51, 67]))


# the simulator


def test_it_steps_as_the_environment_does():
    environment = PushTEnv(obs_type="state")
    state, _ = environment.reset(seed=5)
    table, generator = Simulator(np.asarray(state)), np.random.default_rng(0)
    for number in range(120):
        action = state[2:4] + 60 * generator.standard_normal(2) if number % 7 else generator.uniform(0, 512, 2)
        state, _, _, _, facts = environment.step(action)
        assert table.step(action) == pytest.approx(facts["coverage"], abs=1e-12)
        assert np.array_equal(table.state, state)
    corners = environment.get_keypoints(environment._block_shapes)
    assert np.allclose(simulator.keypoints(table.pose), corners, atol=1e-9)


def test_a_copy_of_its_world_goes_on_as_it_does():
    table, generator = Simulator(simulator.start(3, True)), np.random.default_rng(1)
    for _ in range(20):
        table.push(generator.uniform(150, 350, 2))
    copy = Simulator(simulator.start(4, False))
    copy.restore(table.world)
    for _ in range(40):
        action = generator.uniform(150, 350, 2)
        table.push(action)
        copy.push(action)
        assert np.array_equal(table.world, copy.world)


def test_starts_are_those_of_the_environment_or_near_the_goal():
    for seed in range(5):
        environment = PushTEnv(obs_type="state")
        assert np.array_equal(environment.reset(seed=seed)[0], simulator.start(seed, False))
        assert Simulator(simulator.start(seed, False)).coverage == pytest.approx(environment._get_coverage(), abs=1e-12)
    near = np.stack([simulator.start(seed, True) for seed in range(200)])
    assert (np.abs(near[:, 2:] - simulator.GOAL) <= [70, 70, 0.7]).all()
    assert (np.ptp(near[:, 2:], axis=0) > [120, 120, 1.2]).all()
    assert np.array_equal(near[7], simulator.start(7, True))


# the planner


def test_it_solves_what_the_environment_calls_solved(planned):
    """The environment itself, told the recorded actions, comes through the recorded states and ends with its success."""
    for seed, (states, actions, coverage) in zip((0, 3), planned, strict=True):
        environment = PushTEnv(obs_type="state")
        environment.reset(seed=0, options={"reset_to_state": [0, 0, 0, 0, 0]})
        ours = Simulator(simulator.start(seed, True))
        environment.agent, environment.block, environment.space = ours.environment.agent, ours.environment.block, ours.environment.space
        for state, action in zip(states, actions, strict=True):
            assert np.array_equal(environment.get_obs(), state)
            _, reward, terminated, _, _ = environment.step(action)
        assert terminated
        assert reward == 1
        assert coverage > simulator.SUCCESS
        assert actions.min() >= 0
        assert actions.max() <= 512
        assert len(actions) <= simulator.LIMIT


def test_it_plans_the_same_again_and_comes_back_from_where_noise_leads(planned):
    states, actions, _ = planner.episode(0, True, 0.0)
    assert np.array_equal(states, planned[0][0])
    assert np.array_equal(actions, planned[0][1])
    noisy = planner.episode(0, True, 4.0)
    assert noisy[2] > simulator.SUCCESS
    assert not np.array_equal(noisy[0][1], states[1])


def test_demonstrations_are_made_once_by_several_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = demonstrations.demonstrations(2, True, 0.0, 16)
    assert "2 of the 2 episodes tried are solved" in capsys.readouterr().err
    found, wanted = replay.load(folder), planner.episode(demonstrations.FIRST_SEED, True, 0.0)
    assert len(found) == 2
    assert np.array_equal(found.actions[: found.ends[0]], wanted[1].astype(np.float32))
    assert json.loads((folder / "planned.json").read_text(encoding="utf-8"))["tried"] == 2
    monkeypatch.setattr(demonstrations, "planned", None)
    assert demonstrations.demonstrations(2, True, 0.0, 16) == folder


# formats


def parquet(episodes, folder, layout):
    """As LeRobot writes them: a file an episode (v2), or several in one (v3), rows in any order."""
    number = np.repeat(np.arange(len(episodes)), np.diff(episodes.ends, prepend=0))
    frame = np.concatenate([np.arange(end - first) for first, end in episodes.spans()])
    corners = simulator.keypoints(episodes.states[:, 2:]).reshape(len(number), -1)
    order = np.random.default_rng(0).permutation(len(number))
    whole = datasets.Dataset.from_dict(
        {
            "observation.state": episodes.states[order, :2],
            "observation.environment_state": corners[order].astype(np.float32),
            "action": episodes.actions[order],
            "episode_index": number[order],
            "frame_index": frame[order],
        }
    )
    if layout == "v3":
        whole.to_parquet(folder / "data" / "chunk-000" / "file-000.parquet")
        return
    for one in range(len(episodes)):
        whole.filter(lambda row, one=one: row["episode_index"] == one).to_parquet(
            folder / "data" / "chunk-000" / f"episode_{one:06}.parquet"
        )


@pytest.mark.parametrize("layout", ["folder", "zip", "v2", "v3"])
def test_every_format_holds_the_same_episodes(episodes, tmp_path, layout):
    path = tmp_path / "replay.zarr"
    if layout in ("v2", "v3"):
        (path / "data" / "chunk-000").mkdir(parents=True)
        parquet(episodes, path, layout)
    else:
        replay.save(episodes, path)
        if layout == "zip":
            path = shutil.make_archive(str(path), "zip", path)
    found = replay.load(type(tmp_path)(path))
    assert np.array_equal(found.actions, episodes.actions)
    assert np.array_equal(found.ends, episodes.ends)
    assert np.allclose(found.states, episodes.states, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda e: replace(e, ends=np.asarray([20, 20, 67])),
            r"episode_ends must be integers that increase from above 0, got \[20 20 67\]",
        ),
        (lambda e: replace(e, ends=np.asarray([20, 51, 60])), "episode_ends must end at the number of steps, 67, got 60"),
        (lambda e: replace(e, states=e.states[:, :4]), r"states must have shape \(N, 5\), got \(67, 4\)"),
        (lambda e: replace(e, actions=e.actions[:-1]), "states and actions must be as many, got 67 and 66"),
        (lambda e: replace(e, actions=np.where(np.arange(67)[:, None] == 9, np.nan, e.actions)), "actions must be finite, row 9 is not"),
        (lambda e: replace(e, ends=e.ends.astype(float)), "episode_ends must be integers"),
        (
            lambda e: replace(e, actions=e.actions / 256 - 1, states=e.states / 256 - 1),
            r"must be pixels in \[0, 512\], got numbers in \[-0",
        ),
        (lambda e: replace(e, actions=e.actions + 100), "actions must be pixels in"),
    ],
)
def test_damaged_demonstrations_are_named(episodes, tmp_path, change, words):
    replay.save(change(episodes), tmp_path / "replay.zarr")
    with pytest.raises(ValueError, match=words):
        replay.load(tmp_path / "replay.zarr")


def test_what_holds_no_demonstrations_is_refused(episodes, tmp_path):
    with pytest.raises(ValueError, match=r"must hold demonstrations, a zarr replay buffer .*nowhere does not exist"):
        replay.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"and .* holds none"):
        replay.load(tmp_path)
    zarr.open_group(str(tmp_path / "empty.zarr"), mode="w", zarr_format=2)
    with pytest.raises(ValueError, match="must have data/state, data/action and meta/episode_ends, and lacks 'data/state'"):
        replay.load(tmp_path / "empty.zarr")
    replay.save(episodes, tmp_path / "replay.zarr")
    whole = type(tmp_path)(shutil.make_archive(str(tmp_path / "cut"), "zip", tmp_path / "replay.zarr"))
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"cut.zip cannot be read as a zarr replay buffer"):
        replay.load(whole)
    with pytest.raises(ValueError, match=r"episodes must have data.horizon=24 steps or more, episode 2 has 16"):
        chunks.load(replace(NEAR, train_data_dir=str(tmp_path / "replay.zarr"), horizon=24))


def test_corners_of_another_shape_are_refused():
    corners = simulator.keypoints(np.asarray([[200.0, 200.0, 0.3]]))
    with pytest.raises(ValueError, match=r"must hold the corners of gym-pusht's T, got corners \d+ pixels from it"):
        replay.poses(corners[:, ::-1])
    with pytest.raises(ValueError, match="must hold the T's 8 corners, 16 numbers, got 18"):
        replay.poses(np.zeros((1, 9, 2)))


# what a policy sees


def test_windows_reach_beyond_an_episode_as_far_as_they_are_executed(episodes):
    """By hand, for an episode of 20 steps: the first window begins one step early, the last ends seven late."""
    rows = chunks.windows(episodes, np.asarray([0]), NEAR)
    assert rows.shape == (20 - 16 + 1 + 1 + 7, 16)
    assert rows[0].tolist() == [0, *range(15)]
    assert rows[1].tolist() == list(range(16))
    assert rows[-1].tolist() == [*range(11, 20), *[19] * 7]
    other = chunks.windows(episodes, np.asarray([1, 2]), NEAR)
    assert other.min() == 20
    assert len(other) == 31 - 7 + 16 - 7
    assert not ((other <= 50).any(axis=1) & (other >= 51).any(axis=1)).any()


@pytest.mark.parametrize(("observations", "numbers"), [("keypoints", 18), ("state", 6)])
def test_a_chunk_comes_with_the_observations_before_it(episodes, tmp_path, observations, numbers):
    replay.save(episodes, tmp_path / "replay.zarr")
    images = chunks.load(replace(NEAR, train_data_dir=str(tmp_path / "replay.zarr"), observations=observations))
    source = images.train
    x, told = source.images(np.asarray([3, 0])), source.labels(np.asarray([3, 0]))
    assert x.shape == (2, 2, 16)
    assert x.dtype == told.dtype == np.float32
    assert told.shape == (2, 2 * numbers)
    rows = source.rows[[3, 0]]
    assert np.allclose(source.actions.restored(x.transpose(0, 2, 1)), episodes.actions[rows], atol=1e-3)
    seen = source.observations.restored(told.reshape(2, 2, numbers))
    assert np.allclose(seen[..., -2:], episodes.states[rows[:, :2], :2], atol=1e-3)
    whole = source.images(np.arange(len(source)))
    assert whole.min() == -1
    assert whole.max() == 1
    assert len(images.held_out) + len(source) == 67 - 3 * 7
    assert set(images.held_out.rows.ravel()).isdisjoint(source.rows.ravel())


def test_a_number_that_never_changes_is_not_stretched():
    limits = Limits.of(np.asarray([[3.0, 0.0], [3.0, 4.0]]))
    assert np.array_equal(limits.normalised(np.asarray([[3.0, 4.0], [5.0, 2.0]])), [[0, 1], [2, 0]])
    assert np.array_equal(limits.restored(np.asarray([[0.0, -1.0]])), [[3, 0]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"executed": 16}, r"data.executed must be in \[1, horizon - seen \+ 1 = 15\], got 16"),
        ({"held_out": 4}, "data.held_out must be less than data.episodes=4, got 4"),
        ({"action_noise": -1.0}, r"data.action_noise must be finite and ≥ 0, got -1.0"),
        ({"starts": "far"}, "data.starts must be anywhere or near, got 'far'"),
        ({"observations": "pixels"}, "data.observations must be keypoints or state, got 'pixels'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        replace(NEAR, **settings)


def test_the_missing_extra_is_named():
    program = "import sys; sys.modules['gym_pusht'] = None; from immref_trainers.cli import main; sys.exit(main(['train', 'pusht-small']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == "immref: PushT needs gym_pusht: pip install 'immref[pusht]'\n"
