"""`immref analyze`: its numbers against known clusters, known paths and exact fields; the command from runs to page."""

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from immref import KNN, LinearAssignment, Vanilla, miscibility, theory
from immref.diffusion import velocity_from_data
from immref.exact import ExactField
from immref_trainers import cli, exact_field, finished, recipes
from immref_trainers.analysis import clusters, dose, field, layers, learning, perturbation, plane, subjects
from immref_trainers.analysis.settings import Settings
from immref_trainers.analysis.subjects import Shared, Subject
from immref_trainers.data.training import Arrays
from immref_trainers.errors import UsageError
from immref_trainers.metrics import features
from immref_trainers.samplers import priors

QUIET = Console(quiet=True)
SMALL = (
    *("--max-train-steps", "12", "--evaluation.at-steps", "12", "--evaluation.num-samples", "64", "--evaluation.sampler-steps", "2", "6"),
    *("--train-batch-size", "32", "--network.block-out-channels", "8", "--network.norm-num-groups", "4", "--evaluation.draws", "1"),
)
FEW = ("--num-samples", "100", "--num-paths", "12", "--num-perturbed", "2", "--num-images", "8", "--num-noises", "100")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Judges, priors and fields in hundredths of their size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 10)
        patch.setattr(priors, "MEASURED", 256)
        patch.setattr(exact_field, "PAIRINGS", (Vanilla(),))
        patch.setattr(exact_field, "STEPS", (2, 4))
        patch.setattr(field, "POINTS", 40)
        patch.setattr(field, "CANDIDATES", (1, 4))
        patch.setattr(clusters, "POINTS", 20)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Comparisons of DDIM and of flow matching, by sampler."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMMREF_DEVICE", "cpu")
        for recipe in ("digits-ddim", "digits-flow"):
            folder = tmp_path_factory.mktemp(recipe) / "runs"
            pairings = ("vanilla", "knn,k=4", "linear_assignment") if recipe == "digits-ddim" else ("vanilla", "vanilla,scale=2")
            assert cli.main(["compare", recipe, *SMALL, "--pairings", *pairings, "--output-dir", str(folder)]) == 0
            found[recipe] = folder
    return found


@pytest.fixture(scope="module")
def shared(runs):
    settings = Settings(num_samples=100, num_paths=12, num_perturbed=2, num_images=8, num_noises=100)
    return {recipe: subjects.opened(finished.runs_in([folder]), settings, torch.device("cpu")) for recipe, folder in runs.items()}


@pytest.mark.parametrize("recipe", ["digits-ddim", "digits-flow"])
def test_the_last_layer_predicts_the_sample(shared, recipe):
    """Both samplers end in the image predicted at their last step; and what is predicted at the first is what `denoised` says."""
    for subject in shared[recipe].subjects:
        noise = shared[recipe].noise(5)
        predicted, samples = subject.predicted(noise, None)
        np.testing.assert_array_equal(samples, subject.sample(noise, None))
        assert predicted.shape == (6, 5, 1, 8, 8)
        largest = subject.largest
        np.testing.assert_allclose(predicted[-1], samples.clip(-largest, largest), atol=1e-5)
        first = subject.denoised(noise, *subject.layers[0], None) / subject.run.pairing.scale
        np.testing.assert_allclose(predicted[0], first, atol=1e-4)


def test_more_noises_than_a_network_sees_at_once_are_put_together_in_order(shared):
    subject = shared["digits-flow"].subjects[0]
    noise = shared["digits-flow"].noise(510)
    whole, rest = subject.predicted(noise, None), subject.predicted(noise[500:], None)
    np.testing.assert_allclose(whole[0][:, 500:], rest[0], atol=1e-5)
    np.testing.assert_allclose(whole[1][500:], rest[1], atol=1e-5)


def test_a_network_that_is_the_exact_field_has_its_share(shared):
    here = shared["digits-flow"]
    subject = here.subjects[0]
    exact = ExactField(exact_field.flat(here.images))

    def predict(x_t, t_B, labels_B):
        t = float(t_B[0])
        flat = x_t.reshape(len(x_t), -1).double().numpy()
        speed = velocity_from_data(flat, exact.denoise(flat, t, 1 - t), t)
        return torch.from_numpy(speed).float().reshape(x_t.shape)

    perfect = dataclasses.replace(subject, model=finished.Model(predict, lambda x: x, torch.Tensor.cpu))
    learned = learning.measure(here, perfect)
    np.testing.assert_allclose(learned.network, learned.exact, atol=1e-4)
    assert (np.diff(learned.exact) > 0).all()
    assert learned.exact[0] == pytest.approx(0, abs=1e-6)  # pure noise tells vanilla nothing: the mean image is predicted
    assert learning.measure(here, subject).network[-1] < learned.exact[-1]


def test_goals_are_told_apart():
    ends = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    paths = np.stack([np.ones((3, 2)), ends + 1, ends])  # one point; shifted; there
    np.testing.assert_allclose(layers.own_nearest(paths, ends), [1 / 3, 1, 1])


def test_clusters_are_as_far_apart_as_theory_says():
    """Vanilla: the sampling error of the means; KNN: its pull; assignment, for which there is no theory, farther than either."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 1, 10, 10)).astype(np.float32)
    x *= 10 / np.linalg.norm(x.reshape(40, -1), axis=1)[:, None, None, None]  # of one length
    source, index, count = Arrays(x, np.zeros(40, dtype=np.int64)), np.arange(10), 400
    found = {pairing.method: clusters.measure(source, index, pairing, 20, count, 0) for pairing in (Vanilla(), KNN(8), LinearAssignment())}
    assert found["vanilla"].expected == theory.cluster_distance(100, count)
    assert found["vanilla"].distance == pytest.approx(found["vanilla"].expected, rel=0.05)
    assert found["knn"].distance == pytest.approx(found["knn"].expected, rel=0.05)
    assert found["linear_assignment"].distance > found["knn"].distance > 2 * found["vanilla"].distance
    assert found["knn"].shown.shape == (clusters.SHOWN, clusters.POINTS, 100)


def test_distances_of_means_are_those_of_every_pair():
    assert miscibility.pair_distances(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])).tolist() == [5.0, 1.0, math.hypot(3, 3)]


def test_perturbation_is_measured_in_the_distance_of_two_noises(shared):
    class Doubled(Subject):
        """A generator whose image is the noise itself."""

        def sample(self, noise, labels, steps=None):
            return noise

    here = shared["digits-flow"]
    subject = Doubled(**{one.name: getattr(here.subjects[0], one.name) for one in dataclasses.fields(Subject)})
    images = perturbation.perturbed(here, subject, here.noise(40))
    for weight in perturbation.WEIGHTS:
        moved, changed, error = perturbation.numbers(here, images, weight)
        assert error >= 0
        assert moved == pytest.approx(weight / math.sqrt(2), rel=0.05)  # W |n'| for |n - n''|
        assert 0 <= changed <= 1


def test_doses_are_those_of_theory(tmp_path):
    found = dose.analyze(dose.Settings(num_images=400, output_dir=tmp_path / "dose"), QUIET)
    within = 5 * dose.error(found, 400)
    latents = [row for row in found if row.data == dose.LATENTS]
    assert [row.k for row in latents] == list(dose.CANDIDATES)
    for row in latents:  # photographs are not of one length
        assert row.measured == pytest.approx(row.predicted, abs=within)
    assert {path.suffix for path in (tmp_path / "dose").iterdir()} == {".png", ".svg", ".csv"}


def test_in_the_plane_pairings_tell_the_image_and_straighten_the_paths(tmp_path):
    pairings, trajectories = plane.analyze(plane.Settings(num_noises=60, output_dir=tmp_path / "plane"), QUIET).pictures
    told = {name: float(share) for name, share, _ in pairings.rows}
    assert told["vanilla"] < 0.3 < 0.6 < min(told["linear assignment"], told["KNN k=8"])
    bent = {name: float(value) for name, value in trajectories.rows}
    assert bent["flow, KNN k=8"] < 0.5 * bent["flow, vanilla"]


def test_a_detour_is_how_much_longer_a_path_is():
    there_and_up = np.array([[[0.0, 0.0], [1.0, 0.0]], [[3.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 5.0]]])
    assert plane.detour(there_and_up) == pytest.approx((7 / 5 - 1 + 0) / 2)


def test_the_command_leaves_a_page_pictures_and_their_numbers(runs, tmp_path, capsys):
    output = tmp_path / "analysis"
    argv = ["analyze", str(runs["digits-ddim"]), *FEW, "--output-dir", str(output)]
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out
    page = (output / "report.html").read_text(encoding="utf-8")
    names = ("perturbed", "perturbation", "learned", "layers", "paths", "clusters", "field")
    assert {path.name for path in output.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("png", "svg", "csv")} | {
        "report.html"
    }
    for title in (
        "Perturbed noise",
        "What is known at the noisy layers",
        "Predicted images by layer",
        "Noise clusters",
        "What the networks reached",
    ):
        assert title in shown
        assert title in page
    assert page.count("<img") == len(names)
    with (output / "layers.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + 3 * 6
    assert cli.main(argv) == 2
    assert "analysis" in capsys.readouterr().err


def test_runs_that_do_not_go_together_are_refused(runs, tmp_path, capsys):
    both = [str(folder) for folder in runs.values()]
    assert cli.main(["analyze", *both, *FEW, "--output-dir", str(tmp_path / "new")]) == 2
    assert "runs must differ in pairing and seed alone" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["analyze", str(tmp_path), "--output-dir", str(tmp_path / "new")]) == 2
    assert "is not the folder of a finished run" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def test_latents_are_refused_with_what_applies(run, tmp_path, monkeypatch):
    monkeypatch.setattr(finished, "opened", lambda folder: (run, {}))
    with pytest.raises(UsageError, match="trains UNet2DConditionModel: analyses of runs read images of pixels; kl, dose and plane apply"):
        subjects.opened([Path("a")], Settings(), torch.device("cpu"))


def test_the_same_run_twice_is_refused(runs):
    folder = next(iter(finished.runs_in([runs["digits-flow"]])))
    with pytest.raises(UsageError, match="runs must differ in pairing or seed, got two of the same"):
        subjects.opened([folder, folder.parent / ".." / "runs" / folder.name], Settings(), torch.device("cpu"))


def test_one_step_models_are_perturbed_in_one_step(shared):
    """Further steps add noise of their own, which would be taken for the perturbation's."""
    asked = []

    class Asked(Subject):
        def sample(self, noise, labels, steps=None):
            asked.append(steps)
            return noise

    here = shared["digits-flow"]
    parts = {one.name: getattr(here.subjects[0], one.name) for one in dataclasses.fields(Subject)}
    perturbation.perturbed(here, Asked(**parts | {"run": recipes.find("digits-consistency").run()}), here.noise(2))
    assert set(asked) == {1}


def test_settings_that_measure_nothing_are_refused():
    for name, least in (("num_samples", 100), ("num_images", 6)):
        with pytest.raises(ValueError, match=f"{name} must be ≥ {least}"):
            Settings(**{name: 1})


def test_shared_noise_is_the_same_for_every_run(shared):
    assert isinstance(shared["digits-ddim"], Shared)
    np.testing.assert_array_equal(shared["digits-ddim"].noise(3), shared["digits-flow"].noise(3))
