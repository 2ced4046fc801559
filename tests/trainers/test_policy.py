"""A diffusion policy: its network and sampler against references, and the whole loop closed in the real simulator."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from console import command
from diffusers import DDPMScheduler
from PIL import Image
from power_cut import QUICK
from safetensors.torch import load_file

import immref
from immref import KNN, ImageScaling, LinearAssignment, Vanilla
from immref_trainers import checkpoint, pooling, recipes, samplers
from immref_trainers.config import Evaluation, load_run
from immref_trainers.data import training
from immref_trainers.data.settings import PushT
from immref_trainers.errors import TrainingError
from immref_trainers.loop import Trainer
from immref_trainers.networks import policy_unet
from immref_trainers.networks.policy_unet import ConditionalUNet1D
from immref_trainers.networks.settings import PolicyUNet
from immref_trainers.pusht import replay, results, rollout
from immref_trainers.pusht.planner import episode
from immref_trainers.pusht.replay import Episodes
from immref_trainers.pusht.results import PolicyOutcome
from immref_trainers.results import Covered, Dose, RolledPoint

CPU = torch.device("cpu")
TINY = ("--network.down-dims", 16, 32, "--network.kernel-size", 3, "--network.step-embed-dim", 16)
SHORT = ("--max-train-steps", 6, "--evaluation.at-steps", 3, 6, "--evaluation.num-samples", 3, "--train-batch-size", 32)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    """Four episodes of the planner."""
    made = [episode(seed, True, 4.0)[:2] for seed in range(4)]
    states, actions = (np.concatenate(part) for part in zip(*made, strict=True))
    folder = tmp_path_factory.mktemp("demonstrations") / "replay.zarr"
    replay.save(Episodes(states, actions, np.cumsum([len(one) for _, one in made])), folder)
    return folder


@pytest.fixture(name="run")
def small(demonstrations):
    """Three steps of pusht-small."""
    return replace(
        recipes.find("pusht-small").run(),
        data=PushT(starts="near", train_data_dir=str(demonstrations), held_out=1),
        network=PolicyUNet(down_dims=(16, 32), kernel_size=3, step_embed_dim=16),
        evaluation=Evaluation(at_steps=(3,), sampler_steps=(2,), num_samples=3, temperatures=()),
        train_batch_size=32,
        max_train_steps=3,
    )


@pytest.fixture(name="demos")
def opened(run):
    return training.open_images(run.data, run.seed)


# network and sampler


def test_networks_have_the_sizes_of_diffusion_policy():
    """65.78 M parameters, told two observations of nine keypoints and the agent, as in the paper's baseline; and the small one."""
    with torch.device("meta"):
        whole = policy_unet.build(PolicyUNet(), channels=2, observed=40, seed=0)
    assert sum(weight.numel() for weight in whole.parameters()) == 65_783_298
    chunk, told = torch.empty(3, 2, 16, device="meta"), torch.empty(3, 40, device="meta")
    assert whole(chunk, torch.zeros(3, device="meta"), told).sample.shape == (3, 2, 16)


def test_a_network_hears_observations_and_time_and_its_weights_are_the_seed_s():
    sizes, generator = PolicyUNet(down_dims=(16, 32), step_embed_dim=16), torch.Generator().manual_seed(0)
    x, told = torch.randn(2, 2, 16, generator=generator), torch.randn(2, 10, generator=generator)
    first, again, other = (policy_unet.build(sizes, 2, 10, seed) for seed in (0, 0, 1))
    with torch.no_grad():
        made = first(x, torch.tensor([3, 3]), told).sample
        assert torch.equal(again(x, torch.tensor([3, 3]), told).sample, made)
        for differing in (
            other(x, torch.tensor([3, 3]), told),
            first(x, torch.tensor([3, 9]), told),
            first(x, torch.tensor([3, 3]), told.flip(1)),
        ):
            assert not torch.allclose(differing.sample[1], made[1], atol=1e-3)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps", [100, 20])
def test_ancestral_trajectories_are_diffusers(run, prediction, clip, steps):
    """With the noise that its scheduler draws put in the place of ours; in float64, so that only rounding is allowed for."""
    objective = replace(run.objective, prediction=prediction)
    run = replace(run, objective=objective, sampler=replace(run.sampler, method="ddpm", clip_sample=clip))
    scheduler = DDPMScheduler(
        100, beta_schedule="squaredcos_cap_v2", prediction_type=prediction, clip_sample=clip, timestep_spacing="leading"
    )
    scheduler.alphas_cumprod = torch.from_numpy(run.objective.alpha_bar())
    scheduler.betas = 1 - scheduler.alphas_cumprod / torch.cat([torch.ones(1, dtype=torch.float64), scheduler.alphas_cumprod[:-1]])
    scheduler.alphas = 1 - scheduler.betas
    scheduler.set_timesteps(steps)
    theirs = noise = torch.randn(5, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def predict(x_t, t_B, labels_B):
        return 0.3 * x_t.flip(1) + t_B[:, None, None] / 200

    drawn = []

    class Recorded:
        def standard_normal(self, shape, dtype):
            return drawn.pop(0)

    for number, t in enumerate(scheduler.timesteps):
        step = scheduler.step(predict(theirs, t.expand(5), None), int(t), theirs, generator=torch.Generator().manual_seed(number))
        theirs = step.prev_sample
        if t > 0:
            drawn.append(torch.randn(5, 2, 16, generator=torch.Generator().manual_seed(number), dtype=torch.float64).numpy())
    ours = samplers.sample(run, predict, noise, steps, 1.0, None, Recorded())
    assert not drawn
    assert torch.allclose(ours, theirs, atol=1e-9, rtol=1e-9)


# pairing


def test_pairing_begins_at_its_step_and_by_standardised_actions(demos, run, accelerator):
    """Until then the noise is vanilla's; by standardised actions it is what standardised actions choose."""
    run = replace(run, pairing=LinearAssignment(scale=2.0), pairing_start=2)
    x = torch.from_numpy(demos.train.images(np.arange(32)))
    observations = demos.train.labels(np.arange(32))
    vanilla = replace(run, pairing=ImageScaling(2.0), pairing_start=0)
    for step in (0, 1, 2):
        paired, plain = (pooling.pair_window(x, observations, one, step, accelerator) for one in (run, vanilla))
        assert torch.equal(paired.noise, plain.noise) == (step < 2)
        assert torch.equal(paired.x, 2 * x)
    alike = pooling.pair_window(x, observations, replace(run, pairing_standardised=True), 2, accelerator)
    by_hand = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    assert torch.equal(alike.noise, immref.pair(by_hand, LinearAssignment(), rng=immref.Seed(run.seed, 2, 0)).noise)
    assert torch.equal(alike.x, 2 * x)
    assert not torch.equal(alike.noise, paired.noise)


@pytest.mark.parametrize("pairing", [KNN(k=2), LinearAssignment()], ids=str)
def test_a_policy_goes_on_from_any_step_as_if_nothing_had_happened(demos, run, accelerator, tmp_path, pairing):
    run = replace(run, pairing=pairing)
    trainer, losses = Trainer(run, demos, accelerator), []
    for step in trainer.steps():
        losses.append(step.loss)
        checkpoint.save(tmp_path, step.step, *trainer.state(), disk=QUICK)
    again = Trainer(run, demos, accelerator)
    again.restore(checkpoint.load(tmp_path / "checkpoint-1"))
    assert [step.loss for step in again.steps(1)] == losses[1:]


# roll-outs


def test_a_policy_that_knows_the_demonstration_covers_the_goal(demos, run):
    """Told the recorded actions of seed 0 as its predictions, from the start of seed 0: the loop from actions to coverage loses nothing."""
    _, actions, _ = episode(0, True, 0.0)
    wanted = demos.train.actions.normalised(np.concatenate([actions, np.repeat(actions[-1:], 16, axis=0)]))
    run = replace(run, objective=replace(run.objective, prediction="sample"), sampler=replace(run.sampler, clip_sample=False))
    begun = []

    def predict(x_t, t_B, labels_B):
        if t_B[0] > 0 and (not begun or begun[-1][1] <= t_B[0]):
            begun.append((len(begun), 0))
        first = 8 * (len(begun) - 1)
        chunk = wanted[first - 1 : first + 15] if first else np.concatenate([wanted[:1], wanted[:15]])
        return torch.from_numpy(chunk.T.copy()).expand(len(x_t), 2, 16)

    rolled = rollout.roll_out(run, predict, demos.train, [0], 2, CPU)
    assert rolled.coverage[0] > 0.95
    assert rolled.scores[0] == 1
    assert len(rolled.states[0]) == len(actions) + 1


def test_roll_outs_are_the_same_again_and_an_environment_that_fails_is_named(demos, run, accelerator, monkeypatch):
    predict = Trainer(run, demos, accelerator).predictor(Trainer(run, demos, accelerator).average)
    first, again = (rollout.roll_out(run, predict, demos.train, [0, 1, 5], 2, CPU, limit=20) for _ in range(2))
    assert all(len(states) <= 21 for states in first.states)
    assert all(np.array_equal(a, b) for a, b in zip(first.states, again.states, strict=True))
    assert np.array_equal(first.coverage, again.coverage)
    plain, count = rollout.Simulator.step, []

    def step(table, action):
        count.append(action)
        if len(count) == 12:
            raise RuntimeError("a shape is gone")
        return plain(table, action)

    monkeypatch.setattr(rollout.Simulator, "step", step)
    with pytest.raises(TrainingError, match=r"the environment failed in the roll-out of seed 1 at step 4: a shape is gone"):
        rollout.roll_out(run, predict, demos.train, [0, 1, 5], 2, CPU, limit=20)


# the whole way


def test_demonstrations_become_a_policy_that_acts(demonstrations, tmp_path, monkeypatch, capsys):
    """Trained under two pairings, rolled out, compared and shown; one stopped before its end and gone on with."""
    monkeypatch.setattr(rollout, "LIMIT", 24)
    monkeypatch.setattr(rollout.roll_out, "__defaults__", (24,))
    argv = ("pusht-small", "--data.train-data-dir", demonstrations, "--data.held-out", 1, *TINY, *SHORT, "--evaluation.sampler-steps", 2)
    folder = tmp_path / "compared"
    assert command(monkeypatch, "compare", *argv, "--pairings", "vanilla", "knn,k=2", "--output-dir", folder) == 0
    said = capsys.readouterr().out
    assert "Policies in the simulator (Table 2)" in said
    assert "KNN k=2, 2 steps:" in said
    run = load_run(folder / "knn-k2-seed0")
    assert run.pairing == KNN(k=2)
    outcome = json.loads((folder / "knn-k2-seed0" / "outcome.json").read_text(encoding="utf-8"))
    assert [point["step"] for point in outcome["curve"]] == [3, 6]
    assert len(outcome["final"]["2"]) == 3
    assert 0.7 < outcome["dose"]["mean_square"] < 1
    with Image.open(folder / "film.png") as picture:
        assert picture.size[0] > 800
    with Image.open(folder / "vanilla-seed0" / "rollouts.gif") as picture:
        assert picture.n_frames > 10
    for name in ("outcome.json", "rollouts.npz"):
        (folder / "knn-k2-seed0" / name).unlink()  # stopped after its last step, before anything else was written
    again = ("compare", *argv, "--pairings", "vanilla", "knn,k=2", "--output-dir", folder, "--resume-from-checkpoint", "latest")
    assert command(monkeypatch, *again) == 0
    assert json.loads((folder / "knn-k2-seed0" / "outcome.json").read_text(encoding="utf-8")) == outcome
    assert command(monkeypatch, "verify", folder / "vanilla-seed0") == 0
    capsys.readouterr()
    assert command(monkeypatch, "sample", folder / "vanilla-seed0") == 2
    assert "holds a policy, which makes no images: rollouts.gif there shows what it does" in capsys.readouterr().err

    network = ConditionalUNet1D.from_pretrained(folder / "vanilla-seed0" / "unet")
    kept = load_file(folder / "vanilla-seed0" / "checkpoint-6" / "average.safetensors")
    assert all(torch.equal(weight, kept[name]) for name, weight in network.state_dict().items())


def test_the_paper_s_recipe_trains_two_steps(demonstrations, accelerator):
    """At its size, 65.8 M parameters, but for the batch."""
    run = recipes.find("pusht").run()
    assert len(run.evaluation.at_steps) == 60
    run = replace(
        run,
        data=replace(run.data, train_data_dir=str(demonstrations), held_out=1),
        pairing=KNN(k=2),
        evaluation=replace(run.evaluation, at_steps=(2,)),
        train_batch_size=4,
        max_train_steps=2,
    )
    losses = [step.loss for step in Trainer(run, training.open_images(run.data, 0), accelerator).steps()]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


# what is worked out


def outcome(run, pairing, seed, final):
    scores = [RolledPoint(step, {10: Covered(score, 0.02, 0.1, 9.0)}) for step, score in ((1, 0.3), (2, 0.7), (3, 0.5))]
    run = replace(run, pairing=pairing, seed=seed, evaluation=replace(run.evaluation, sampler_steps=(10,)))
    return PolicyOutcome(run, scores, {10: final}, Dose(-0.1, 0.9, 1.0, 10.0), 1.0)


def test_table_2_and_its_verdicts(run):
    generator = np.random.default_rng(0)
    base = [generator.uniform(0, 1, 200) for _ in range(3)]
    vanilla = [outcome(run, Vanilla(), seed, values.tolist()) for seed, values in enumerate(base)]
    assert results.last_ten(vanilla[0], 10) == pytest.approx(0.5)
    assert results.largest(vanilla[0], 10) == 0.7
    for shift, verdict in ((0.05, "better"), (-0.05, "worse"), (0.0, "no different")):
        other = [
            outcome(run, KNN(k=2), seed, (values + shift + 0.1 * generator.standard_normal(200)).tolist())
            for seed, values in enumerate(base)
        ]
        found = results.difference(vanilla, other, 10)
        assert found.mean == pytest.approx(shift, abs=0.02)
        assert found.over_starts == pytest.approx(0.1 / np.sqrt(600), rel=0.2)
        assert found.over_seeds == pytest.approx(0.1 / np.sqrt(600), rel=1)
        assert found.verdict == verdict
    shared = 0.1 * generator.standard_normal(200)  # of a start, the same under every training seed
    alike = [outcome(run, KNN(k=2), seed, (values + shared).tolist()) for seed, values in enumerate(base)]
    assert results.difference(vanilla, alike, 10).over_starts == pytest.approx(0.1 / np.sqrt(200), rel=0.2)
    by_seed = [
        outcome(run, KNN(k=2), seed, (values + shift).tolist())
        for seed, values, shift in zip(range(3), base, (0.4, -0.1, 0.1), strict=True)
    ]
    assert results.difference(vanilla, by_seed, 10).verdict == "no different"
    assert results.difference(vanilla[:1], by_seed[:1], 10).verdict.startswith("undecided")
