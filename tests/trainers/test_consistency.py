"""Consistency training: losses worked by hand, the noise levels' law, and what student and teacher must share, with mutants of it."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler
from scipy import stats

import immref
from immref import KNN, Paired, Seed, diffusion, schedules
from immref_trainers import objectives, streams
from immref_trainers.config import Consistency
from immref_trainers.loop import Trainer
from immref_trainers.objectives.consistency import ConsistencyTraining

VARIANTS = {"ct": Consistency(variant="ct", distance="l2", s0=2, s1=150), "ict": Consistency()}
STEPS = 8  # of training: ict's levels double seven times
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def objective_of(variant, scale=1.0, **changes):
    return objectives.build(replace(VARIANTS[variant], **changes), torch.zeros(1), STEPS, scale)


def pair_of(x, noise):
    nothing = torch.zeros(())
    return Paired(torch.tensor(x), torch.tensor(noise), torch.arange(len(x)), nothing, nothing)


def itself(x_t, sigma_B, labels_B):
    """The predictor whose outputs at two levels differ by the noise between them."""
    return x_t


# x_t at levels 2.5 and 2 differ by half the noise: by (1.5, 2), of length 2.5 and mean square 3.125
@pytest.mark.parametrize(
    ("variant", "distance", "loss"),
    [
        ("ct", "l2", 3.125),
        ("ict", "l2", 3.125 / 0.5),
        ("ct", "pseudo_huber", math.sqrt(6.25 + 2 * 0.00054**2) - 0.00054 * math.sqrt(2)),
        ("ict", "pseudo_huber", (math.sqrt(6.25 + 2 * 0.00054**2) - 0.00054 * math.sqrt(2)) / 0.5),
    ],
)
def test_the_loss_by_hand(variant, distance, loss):
    paired, t_B = pair_of([[1.0, -2.0]] * 3, [[3.0, 4.0]] * 3), torch.tensor([[2.5, 2.0]] * 3)
    assert objective_of(variant, distance=distance).loss(itself, paired, t_B).item() == pytest.approx(loss, rel=1e-6)


def test_every_image_has_its_own_weight_in_ict():
    paired, t_B = pair_of([[0.0, 0.0]] * 2, [[3.0, 4.0], [0.6, 0.8]]), torch.tensor([[3.0, 2.0], [1.5, 1.0]])
    by_hand = (12.5 / 1.0 + 0.125 / 0.5) / 2  # mean squares 25/2 and (1/2)²/2
    assert objective_of("ict", distance="l2").loss(itself, paired, t_B).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("step", range(STEPS))
@each_variant
def test_levels_are_neighbours_of_the_step_s_grid(variant, step):
    levels = {"ct": schedules.consistency_levels(step, STEPS, 2, 150), "ict": schedules.doubling_levels(step, STEPS, 10, 1280)}[variant]
    sigma_N = schedules.karras_sigmas(levels, 0.002, 80.0).clip(0.002, 80.0).astype(np.float32)
    t_B = objective_of(variant).times(np.random.default_rng(step), 500, step)
    assert (t_B.dtype, t_B.shape) == (np.float32, (500, 2))
    place = np.searchsorted(sigma_N, t_B)
    assert np.array_equal(sigma_N[place], t_B)
    assert np.array_equal(place[:, 0], place[:, 1] + 1)


@each_variant
def test_the_law_of_the_levels(variant):
    """Uniform for ct; for ict those of log-normal noise levels, from SciPy's law. A chi-square test, one false alarm in 1e9."""
    objective, step, count = objective_of(variant), 1, 200_000
    sigma_N = objective.grid(step)
    below_N = stats.norm(-1.1, 2.0).cdf(np.log(sigma_N)) if variant == "ict" else np.arange(len(sigma_N))
    chance = np.diff(below_N) / (below_N[-1] - below_N[0])
    lower = objective.times(np.random.default_rng(0), count, step)[:, 1]
    found = np.bincount(np.searchsorted(sigma_N.astype(np.float32), lower), minlength=len(chance))
    assert len(found) == len(chance) > 5
    assert np.sum((found - count * chance) ** 2 / (count * chance)) < stats.chi2(len(chance) - 1).isf(1e-9)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_consistency_function_is_diffusers_and_knows_the_image_scaling(scale):
    objective, seen = objective_of("ict", scale), []
    scheduler = CMStochasticIterativeScheduler(sigma_data=0.5 * scale, clip_denoised=False)
    scheduler.set_timesteps(timesteps=[39, 24, 12, 0])

    def network(x, time_B):
        seen.append((x, time_B))
        return SimpleNamespace(sample=torch.sin(3 * x))

    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 4, 4))).float()
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x_t = x * sigma
        ours = objective.predictor(network)(x_t, sigma.repeat(2), None)
        scaled, time_B = seen[-1]
        told = scheduler.scale_model_input(x_t, t)
        assert torch.allclose(scaled, told, rtol=1e-6, atol=0)
        assert torch.allclose(time_B.double(), t.repeat(2), rtol=1e-5, atol=1e-4)
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition(sigma)
        assert torch.allclose(ours, c_skip * x_t + c_out * torch.sin(3 * told), rtol=1e-5, atol=1e-6)
        scheduler.step(told, t, x_t)  # moves to the next level


def test_at_the_least_level_the_function_is_the_identity_whatever_the_network_says():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 4, 4))).float()
    predict = objective_of("ict").predictor(lambda x, time_B: SimpleNamespace(sample=1e6 * torch.ones_like(x)))
    least = torch.from_numpy(objective_of("ict").grid(0)[:1].clip(0.002).astype(np.float32)).repeat(2)
    assert torch.equal(predict(x, least, None), x)


# what student and teacher share: laws, each with a training that breaks it


def same_noise(objective):
    """Both levels are reached by the noise that pairing chose."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((16, 3)))
    paired, seen = immref.pair(x, KNN(k=4), rng=Seed(0)), []

    def recording(x_t, sigma_B, labels_B):
        seen.append((x_t - x) / sigma_B[:, None])
        return x_t * sigma_B[:, None]

    objective.loss(recording, paired, torch.from_numpy(objective.times(rng, len(x), STEPS - 1)).double())
    assert len(seen) == 2
    for noise in seen:
        assert torch.allclose(noise, paired.noise, rtol=0, atol=1e-9)  # rounding of x + sigma n over the least sigma


def same_dropout(objective):
    """Where nothing but the dropout mask counts there is no loss, and the teacher costs the student no random number."""
    paired, t_B = pair_of([[1.0] * 64] * 8, [[0.5] * 64] * 8), torch.tensor([[2.0, 1.0]] * 8)

    def dropping(x_t, sigma_B, labels_B):
        return torch.nn.functional.dropout(torch.ones_like(x_t), 0.5)

    torch.manual_seed(3)
    assert objective.loss(dropping, paired, t_B).item() == 0.0
    after = torch.get_rng_state()
    torch.manual_seed(3)
    dropping(paired.x, None, None)
    assert torch.equal(after, torch.get_rng_state())


def taught_without_gradient(objective):
    """The upper level is the student's, the lower one the teacher's, through whom no gradient flows."""
    student, teacher = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    paired, t_B = pair_of([[1.0, 1.0]], [[1.0, 1.0]]), torch.tensor([[2.0, 1.0]])
    objective = replace(objective, distance=lambda first, second: (first - second).square().sum(dim=1))
    objective.loss(lambda x, *_: student * x, paired, t_B, teach=lambda x, *_: teacher * x).backward()
    assert student.grad.item() == 2 * (2 * 3 - 3 * 2) * 3 * 2  # x_t is 3 above and 2 below: outputs 6 and 6
    assert teacher.grad is None
    student.grad = None
    objective.loss(lambda x, *_: student * x, paired, t_B).backward()
    assert student.grad.item() == 2 * (2 * 3 - 2 * 2) * 3 * 2


def labels_for_both(objective):
    """Both are told the images' labels."""
    seen = []

    def recording(x_t, sigma_B, labels_B):
        seen.append(labels_B)
        return x_t

    objective.loss(recording, pair_of([[1.0]] * 3, [[2.0]] * 3), torch.tensor([[2.0, 1.0]] * 3), torch.arange(3))
    assert len(seen) == 2
    assert all(labels is not None and labels.tolist() == [0, 1, 2] for labels in seen)


LAWS = {law.__name__: law for law in (same_noise, same_dropout, taught_without_gradient, labels_for_both)}


@pytest.mark.parametrize("law", LAWS)
@each_variant
def test_student_and_teacher(variant, law):
    LAWS[law](objective_of(variant))


class Mutant(ConsistencyTraining):
    """The loss in plain lines, with one line wrong per subclass."""

    def loss(self, predict, paired, t_B, labels_B=None, *, teach=None):
        above_B, below_B = t_B.unbind(1)
        with torch.random.fork_rng([]):
            wanted = (teach or predict)(self.lower(paired, below_B), below_B, self.told(labels_B))
        wanted = self.constant(wanted)
        self.between()
        return self.distance(predict(diffusion.corrupt(paired.x, paired.noise, 1.0, above_B), above_B, labels_B), wanted).mean()

    def lower(self, paired, below_B):
        return diffusion.corrupt(paired.x, paired.noise, 1.0, below_B)

    def constant(self, wanted):
        return wanted.detach()

    def told(self, labels_B):
        return labels_B

    def between(self):
        pass


class OtherNoise(Mutant):
    """The lower level is reached by noise of its own."""

    def lower(self, paired, below_B):
        return diffusion.corrupt(paired.x, torch.randn_like(paired.noise), 1.0, below_B)


class OtherMask(Mutant):
    """The student drops other units."""

    def between(self):
        torch.rand(7)


class GradientThroughTheTeacher(Mutant):
    """The target moves too."""

    def constant(self, wanted):
        return wanted


class Untold(Mutant):
    """The teacher does not know the labels."""

    def told(self, labels_B):
        return None


def mutant(kind):
    objective = objective_of("ct")
    return kind(objective.settings, objective.train_steps, objective.sigma_data, objective.distance)


@pytest.mark.parametrize("law", LAWS)
def test_the_laws_hold_for_the_plain_lines_too(law):
    LAWS[law](mutant(Mutant))


@pytest.mark.parametrize(
    ("law", "kind"),
    [
        ("same_noise", OtherNoise),
        ("same_dropout", OtherMask),
        ("taught_without_gradient", GradientThroughTheTeacher),
        ("labels_for_both", Untold),
    ],
)
def test_the_laws_see_their_mutants(law, kind):
    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        LAWS[law](mutant(kind))


# the target network of ct


def test_the_target_network_follows_with_mu_of_k(tiny, images, accelerator):
    """Against the mean worked out from the weights that every step left."""
    run = replace(tiny, objective=replace(VARIANTS["ct"], s1=20), sampler=replace(tiny.sampler, method="multistep"))
    trainer = Trainer(run, images, accelerator)

    def weights(network):
        return torch.cat([weight.detach().flatten() for weight in network.parameters()]).double()

    mean = weights(trainer.bare)
    assert torch.equal(weights(trainer.target), mean)
    for step in trainer.steps():
        decay = 0.9 ** (2 / schedules.consistency_levels(step.step - 1, run.max_train_steps, 2, 20))
        mean = decay * mean + (1 - decay) * weights(trainer.bare)
        assert torch.allclose(weights(trainer.target), mean, rtol=0, atol=step.step * torch.finfo(torch.float32).eps * mean.abs().max())
    assert not torch.equal(weights(trainer.target), weights(trainer.bare))


def test_the_target_network_and_not_the_student_teaches(tiny, images, accelerator):
    """A run whose target network never moves is another run from the second step on."""
    run = replace(tiny, objective=replace(VARIANTS["ct"], s1=20), sampler=replace(tiny.sampler, method="multistep"))
    losses = [
        [step.loss for step in Trainer(replace(run, objective=replace(run.objective, mu0=mu0)), images, accelerator).steps()]
        for mu0 in (0.9, 0.999999)
    ]
    assert losses[0][0] == losses[1][0]
    assert losses[0][2:] != losses[1][2:]


def test_ict_has_no_target_network(tiny, images, accelerator):
    run = replace(tiny, objective=replace(VARIANTS["ict"], s0=2, s1=8), sampler=replace(tiny.sampler, method="multistep"))
    trainer = Trainer(run, images, accelerator)
    assert trainer.target is None
    assert "target" not in trainer.state()[0]


def test_every_seed_has_its_own_renoising():
    first, again, other = (streams.generator(streams.RENOISE, seed).standard_normal(4) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
