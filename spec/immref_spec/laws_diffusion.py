"""Diffusion arithmetic on the subject's arrays: x_t = a x + b n, predictions and what they stand for, steps, consistency.

A prediction p at x_t is a second linear combination of x and n: with M = [[a, b], [c, d]], (x_t, p) = M (x, n). Every band is
gamma(r) = r u / (1 - r u), for r roundings of u each in the dtype itself, times the sum of the terms' absolute values;
the expected values, written in float64 from the definitions, have up to ORACLE roundings of their own.
Shape suffixes: B images, D numbers per image.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from array_api_compat import device
from hypothesis import given

from immref import diffusion
from immref_spec import compare
from immref_spec.bands import Band
from immref_spec.strategies import Case, Values, cases, examples
from immref_spec.subjects import Subject

PREDICTIONS = ("epsilon", "sample", "v_prediction", "velocity")
PATHS = ("variance preserving", "flow", "exploding")
KINDS = ("normal", "lattice", "zero rows")
ORACLE = 16


def gamma(roundings: int, dtype: str) -> float:
    """The relative error of a product rounded so many times in the dtype itself (half precision is not widened) and in the oracle."""
    u, oracle = float(np.finfo(dtype).eps) / 2, float(np.finfo(np.float64).eps) / 2
    return roundings * u / (1 - roundings * u) + ORACLE * oracle


def rounded(roundings: int, terms: Values, dtype: str) -> Band:
    """Of a sum of products whose absolute values add up to `terms`; a product that underflows loses a subnormal."""
    lost = roundings * float(np.finfo(dtype).smallest_subnormal) * (1 + np.max(terms))
    return Band(gamma(roundings, dtype) * terms + lost, f"{roundings} roundings in {dtype} of every term")


def level(path: str, at_B: Values, dtype: str) -> tuple[Values, Values]:
    """(a, b), shape (B,), at places in (0, 1) of a path from noise (0) to data (1), as the dtype holds them."""
    if path == "variance preserving":
        a_B, b_B = np.sin(at_B * np.pi / 2), np.cos(at_B * np.pi / 2)
    elif path == "flow":
        a_B, b_B = at_B, 1 - at_B
    else:
        a_B, b_B = np.ones_like(at_B), 8 * (1 - at_B) ** 3
    return a_B.astype(dtype), b_B.astype(dtype)


def places(case: Case) -> Values:
    """A place on the path for each image, away from its ends."""
    return np.random.default_rng([case.seed, 4]).uniform(0.05, 0.95, case.shape[0])


def matrix(prediction: str, a_B: Values, b_B: Values) -> Values:
    """M, shape (B, 2, 2) in float64, written from the definitions."""
    a_B, b_B = a_B.astype(np.float64), b_B.astype(np.float64)
    zero_B, one_B = np.zeros_like(a_B), np.ones_like(a_B)
    c_B, d_B = {"epsilon": (zero_B, one_B), "sample": (one_B, zero_B), "v_prediction": (-b_B, a_B), "velocity": (one_B, -one_B)}[prediction]
    return np.stack([np.stack([a_B, b_B], axis=1), np.stack([c_B, d_B], axis=1)], axis=1)


def inverse(matrix_B22: Values) -> Values:
    """M⁻¹, entry by entry: no determinant here cancels."""
    (a_B, b_B), (c_B, d_B) = ((matrix_B22[:, i, 0], matrix_B22[:, i, 1]) for i in (0, 1))
    adjugate_B22 = np.stack([np.stack([d_B, -b_B], axis=1), np.stack([-c_B, a_B], axis=1)], axis=1)
    return np.asarray(adjugate_B22 / (a_B * d_B - b_B * c_B)[:, None, None])


def applied(matrix_B22: Values, first_BD: Values, second_BD: Values) -> tuple[Values, Values]:
    """M (first, second), image by image."""
    both_2BD = np.einsum("bij,jbd->ibd", matrix_B22, np.stack([first_BD, second_BD]))
    return both_2BD[0], both_2BD[1]


def settings(subject: Subject, case: Case) -> Iterator[tuple[str, str, Values, Values]]:
    """Every dtype of the subject and every path, with (a, b) for each image."""
    for dtype in subject.dtypes:
        for path in PATHS:
            yield dtype, path, *level(path, places(case), dtype)


def calls(x: Any, noise: Any, a_B: Any, b_B: Any) -> Iterator[tuple[str, Any]]:
    """Every function's results on two arrays like images, by name."""
    yield "corrupt", diffusion.corrupt(x, noise, a_B, b_B)
    yield "perturb", diffusion.perturb(x, noise, a_B)
    yield "consistency", diffusion.consistency(x, noise, b_B)
    for prediction in PREDICTIONS:
        yield f"target of {prediction}", diffusion.target(prediction, x, noise, a_B, b_B)
        image, recovered = diffusion.recover(prediction, x, noise, a_B, b_B)
        yield from ((f"image of {prediction}", image), (f"noise of {prediction}", recovered))
        yield f"step of {prediction}", diffusion.ddim_step(prediction, x, noise, a_B, b_B, b_B, a_B)


@examples(20)
@given(case=cases(kinds=KINDS))
def test_results_are_like_the_image(subject: Subject, case: Case) -> None:
    """Library, dtype, device and shape are those of x, whether coefficients are arrays or floats; nothing is written to."""
    for dtype, path, a_B, b_B in settings(subject, case):
        values = {"x": case.images(dtype), "noise": case.noises(dtype), "a": a_B, "b": b_B}
        arrays = {name: subject.asarray(value.copy()) for name, value in values.items()}
        x, noise = arrays["x"], arrays["noise"]
        for a, b in ((arrays["a"], arrays["b"]), (0.5, 0.25), (np.float64(0.5), np.float64(0.25))):
            for called, result in calls(x, noise, a, b):
                what = f"{called} with {type(a).__name__} coefficients for {case} in {dtype} ({path})"
                compare.same(type(result), type(x), f"type of {what}")
                compare.same((str(result.dtype), tuple(result.shape)), (str(x.dtype), tuple(x.shape)), f"dtype and shape of {what}")
                compare.same(device(result), device(x), f"device of {what}")
        for name, value in values.items():
            compare.same_bits(subject.asnumpy(arrays[name]), value, f"{name} after every function for {case} in {dtype}")


@examples(20)
@given(case=cases(kinds=KINDS))
def test_corrupt_mixes_image_and_noise(subject: Subject, case: Case) -> None:
    """x_t = a x + b n, two roundings a term; (1, 0) is the image and (0, 1) the noise, exactly."""
    for dtype, path, a_B, b_B in settings(subject, case):
        x, noise = case.images(dtype), case.noises(dtype)
        mixed = subject.asnumpy(diffusion.corrupt(*(subject.asarray(v) for v in (x, noise, a_B, b_B))))
        matrix_B22, (x_BD, n_BD) = matrix("epsilon", a_B, b_B), (case.rows(x), case.rows(noise))
        band = rounded(2, applied(np.abs(matrix_B22), np.abs(x_BD), np.abs(n_BD))[0], dtype)
        compare.within(case.rows(mixed), applied(matrix_B22, x_BD, n_BD)[0], band, f"x_t for {case} in {dtype} ({path})")
        for a, b, end in ((1.0, 0.0, x), (0.0, 1.0, noise)):
            mixed = subject.asnumpy(diffusion.corrupt(subject.asarray(x), subject.asarray(noise), a, b))
            compare.within(mixed, end.astype(np.float64), Band(0.0, "products with 1 and 0"), f"x_t at ({a}, {b}) for {case} in {dtype}")


@examples(20)
@given(case=cases(kinds=KINDS))
def test_the_perfect_predictor_has_no_loss(subject: Subject, case: Case) -> None:
    """Who knows the image finds the noise in x_t, and who knows the noise the image: what either predicts is the target."""
    for dtype, path, a_B, b_B in settings(subject, case):
        x, noise, a, b = (subject.asarray(v) for v in (case.images(dtype), case.noises(dtype), a_B, b_B))
        x_BD, n_BD, mixed_BD = (case.rows(subject.asnumpy(v)) for v in (x, noise, diffusion.corrupt(x, noise, a, b)))
        for prediction in PREDICTIONS:
            matrix_B22 = matrix(prediction, a_B, b_B)
            mixed_terms, terms = applied(np.abs(matrix_B22), np.abs(x_BD), np.abs(n_BD))
            wanted_BD = case.rows(subject.asnumpy(diffusion.target(prediction, x, noise, a, b)))
            a_B1, b_B1, c_B1, d_B1 = (matrix_B22[:, i, j, None] for i in (0, 1) for j in (0, 1))
            knows_image = c_B1 * x_BD + d_B1 * (mixed_BD - a_B1 * x_BD) / b_B1
            knows_noise = c_B1 * (mixed_BD - b_B1 * n_BD) / a_B1 + d_B1 * n_BD
            for who, found_BD, grown in (("image", knows_image, np.abs(d_B1) / b_B1), ("noise", knows_noise, np.abs(c_B1) / a_B1)):
                band = rounded(2, terms + grown * mixed_terms, dtype)
                compare.within(found_BD, wanted_BD, band, f"{prediction} by who knows the {who}, for {case} in {dtype} ({path})")


@examples(20)
@given(case=cases(kinds=KINDS))
def test_a_prediction_gives_back_image_and_noise(subject: Subject, case: Case) -> None:
    """(x, n) → (x_t, target) → (x, n), seven roundings a term, terms |M⁻¹| |M| (|x|, |n|); what was predicted outright is kept."""
    for dtype, path, a_B, b_B in settings(subject, case):
        x, noise, a, b = (subject.asarray(v) for v in (case.images(dtype), case.noises(dtype), a_B, b_B))
        x_BD, n_BD = (case.rows(subject.asnumpy(v)) for v in (x, noise))
        mixed = diffusion.corrupt(x, noise, a, b)
        for prediction in PREDICTIONS:
            what = f"{prediction} for {case} in {dtype} ({path})"
            output = diffusion.target(prediction, x, noise, a, b)
            found = [subject.asnumpy(v) for v in diffusion.recover(prediction, output, mixed, a, b)]
            matrix_B22 = matrix(prediction, a_B, b_B)
            condition_B22 = np.abs(inverse(matrix_B22)) @ np.abs(matrix_B22)
            terms = applied(condition_B22, np.abs(x_BD), np.abs(n_BD))
            for called, values, expected_BD, terms_BD in zip(("image", "noise"), found, (x_BD, n_BD), terms, strict=True):
                compare.within(case.rows(values), expected_BD, rounded(7, terms_BD, dtype), f"{called} of {what}")
            if prediction in ("epsilon", "sample"):
                place = PREDICTIONS.index(prediction)
                compare.same_bits(found[1 - place], subject.asnumpy(output), f"what was predicted outright, {what}")


@examples(10)
@given(case=cases(kinds=("normal",)))
def test_what_a_prediction_cannot_know_is_not_finite(subject: Subject, case: Case) -> None:
    """At a = 0 a noise says nothing about the image, at b = 0 an image nothing about the noise; the others lose nothing there."""
    for dtype in subject.dtypes:
        x, noise = subject.asarray(case.images(dtype)), subject.asarray(case.noises(dtype))
        x_BD, n_BD = case.rows(case.images(dtype)), case.rows(case.noises(dtype))
        for a, b, blind in ((0.0, 1.0, "epsilon"), (1.0, 0.0, "sample")):
            mixed = diffusion.corrupt(x, noise, a, b)
            for prediction in PREDICTIONS:
                output = diffusion.target(prediction, x, noise, a, b)
                with np.errstate(all="ignore"):
                    found = [case.rows(subject.asnumpy(v)) for v in diffusion.recover(prediction, output, mixed, a, b)]
                what = f"of {prediction} at ({a}, {b}) for {case} in {dtype}"
                if prediction == blind:
                    lost = found[PREDICTIONS.index(blind)]
                    compare.holds(not np.isfinite(lost).any(), f"the image or noise that cannot be known must not be finite, {what}")
                    continue
                terms = rounded(7, 3 * (np.abs(x_BD) + np.abs(n_BD)), dtype)
                compare.within(found[0], x_BD, terms, f"image {what}")
                compare.within(found[1], n_BD, terms, f"noise {what}")


@examples(20)
@given(case=cases(kinds=KINDS))
def test_a_step_goes_to_the_next_level(subject: Subject, case: Case) -> None:
    """x_t' = (a', b') M⁻¹ (x_t, p) for any prediction, right or wrong; seven roundings a term."""
    for dtype, path, a_B, b_B in settings(subject, case):
        output, mixed = case.images(dtype), case.noises(dtype)
        next_a_B, next_b_B = level(path, places(case) * 0.5 + 0.5, dtype)
        for prediction in PREDICTIONS:
            arrays = (subject.asarray(v) for v in (output, mixed, a_B, b_B, next_a_B, next_b_B))
            stepped = subject.asnumpy(diffusion.ddim_step(prediction, *arrays))
            inverse_B22 = inverse(matrix(prediction, a_B, b_B))
            weight_B12 = np.stack([next_a_B, next_b_B], axis=1)[:, None, :].astype(np.float64)
            expected_BD = np.sum(
                (weight_B12 @ inverse_B22)[:, 0, :, None] * np.stack([case.rows(mixed), case.rows(output)], axis=1), axis=1
            )
            terms_B2 = (weight_B12 @ np.abs(inverse_B22))[:, 0]
            terms_BD = terms_B2[:, :1] * np.abs(case.rows(mixed)) + terms_B2[:, 1:] * np.abs(case.rows(output))
            compare.within(
                case.rows(stepped), expected_BD, rounded(7, terms_BD, dtype), f"step of {prediction}, {case} in {dtype} ({path})"
            )


@examples(20)
@given(case=cases(kinds=KINDS))
def test_perfect_steps_end_at_the_image(subject: Subject, case: Case) -> None:
    """With the perfect predictor four steps, the last to (1, 0), end at the image; an error grows by (a', b') M⁻¹ a step."""
    for dtype in subject.dtypes:
        x, noise = subject.asarray(case.images(dtype)), subject.asarray(case.noises(dtype))
        x_BD, n_BD = case.rows(case.images(dtype)), case.rows(case.noises(dtype))
        for path in PATHS:
            levels = [level(path, places(case) * 0.25 + 0.25 * i, dtype) for i in range(4)]
            levels.append((np.ones_like(levels[0][0]), np.zeros_like(levels[0][0])))
            for prediction in PREDICTIONS:
                state = diffusion.corrupt(x, noise, *(subject.asarray(v) for v in levels[0]))
                error_BD = rounded(2, applied(np.abs(matrix(prediction, *levels[0])), np.abs(x_BD), np.abs(n_BD))[0], dtype).width
                for here, there in zip(levels[:-1], levels[1:], strict=True):
                    now, then = (tuple(subject.asarray(v) for v in pair) for pair in (here, there))
                    output = diffusion.target(prediction, x, noise, *now)
                    state = diffusion.ddim_step(prediction, output, state, *now, *then)
                    matrix_B22 = matrix(prediction, *here)
                    inverse_B22, weight_B12 = inverse(matrix_B22), np.stack(there, axis=1)[:, None, :].astype(np.float64)
                    grown_B1 = np.abs((weight_B12 @ inverse_B22)[:, 0, :1])
                    terms_B2 = (weight_B12 @ np.abs(inverse_B22) @ np.abs(matrix_B22))[:, 0]
                    terms_BD = terms_B2[:, :1] * np.abs(x_BD) + terms_B2[:, 1:] * np.abs(n_BD)
                    error_BD = grown_B1 * (1 + gamma(7, dtype)) * error_BD + rounded(9, terms_BD, dtype).width
                band = Band(error_BD, "2 roundings of the start and 9 of every step, grown by the steps that follow")
                compare.within(case.rows(subject.asnumpy(state)), x_BD, band, f"end of {prediction}, {case} in {dtype} ({path})")


@examples(20)
@given(case=cases(kinds=KINDS))
def test_perturbation_adds_its_variance(subject: Subject, case: Case) -> None:
    """Eq. 1: N + W N'; for noises of mean square 1 that are orthogonal, the mean square is exactly 1 + W²."""
    first, second = np.asarray([1.0, -1.0, 1.0, -1.0]), np.asarray([1.0, 1.0, -1.0, -1.0])
    for dtype in subject.dtypes:
        noise, other, weight_B = case.images(dtype), case.noises(dtype), places(case).astype(dtype)
        found = case.rows(subject.asnumpy(diffusion.perturb(*(subject.asarray(v) for v in (noise, other, weight_B)))))
        added = weight_B.astype(np.float64)[:, None] * case.rows(other)
        band = rounded(2, np.abs(case.rows(noise)) + np.abs(added), dtype)
        compare.within(found, case.rows(noise) + added, band, f"perturbed noise for {case} in {dtype}")
        for weight in (0.0, 0.125, 0.25, 2.0):
            one, two = (subject.asarray(np.tile(v, (3, 5)).astype(dtype)) for v in (first, second))
            total = subject.asnumpy(diffusion.perturb(one, two, weight)).astype(np.float64)
            compare.same(float(np.mean(total**2)), 1 + weight**2, f"mean square of a noise perturbed by W = {weight} in {dtype}")


@examples(20)
@given(case=cases(kinds=KINDS))
def test_consistency_is_the_identity_at_sigma_min(subject: Subject, case: Case) -> None:
    """f(x, sigma_min) = x exactly, whatever the network says; above, f and the three scalings are their formulas."""
    for dtype in [dtype for dtype in subject.dtypes if dtype != "float16"]:
        x, output = case.images(dtype), case.noises(dtype)
        for least, data in ((0.002, 0.5), (0.0625, 1.0)):
            sigma_B = (least * (80 / least) ** places(case)).astype(dtype)
            image, network, sigma = (subject.asarray(v) for v in (x, output, sigma_B))
            scalings = diffusion.consistency_scalings(sigma, data, least)
            exact_B = sigma_B.astype(np.float64)
            above_B, length_B = exact_B - least, np.sqrt(exact_B**2 + data**2)
            exact = (data**2 / (above_B**2 + data**2), above_B * data / length_B, 1 / length_B)
            lost_B = gamma(2, dtype) * (exact_B + least)  # of sigma - sigma_min
            extra = (2 * above_B * lost_B / (above_B**2 + data**2) * exact[0], lost_B * data / length_B, 0 * exact_B)
            widths = [gamma(8, dtype) * value_B + extra_B for value_B, extra_B in zip(exact, extra, strict=True)]
            what = f"sigma_min {least} for {case} in {dtype}"
            for called, found, value_B, width_B in zip(("c_skip", "c_out", "c_in"), scalings, exact, widths, strict=True):
                band = Band(width_B, f"8 roundings in {dtype}, 2 of sigma - sigma_min")
                compare.within(subject.asnumpy(found), value_B, band, f"{called}, {what}")
            x_BD, output_BD = case.rows(x), case.rows(output)
            expected_BD = exact[0][:, None] * x_BD + exact[1][:, None] * output_BD
            terms_BD = np.abs(exact[0][:, None] * x_BD) + np.abs(exact[1][:, None] * output_BD)
            width_BD = widths[0][:, None] * np.abs(x_BD) + widths[1][:, None] * np.abs(output_BD) + rounded(3, terms_BD, dtype).width
            found = subject.asnumpy(diffusion.consistency(network, image, sigma, data, least))
            compare.within(case.rows(found), expected_BD, Band(width_BD, "the scalings' bands, and 3 roundings"), f"f, {what}")
            for bottom in (least, subject.asarray(np.full(case.shape[0], least, dtype=dtype))):
                found = subject.asnumpy(diffusion.consistency(network, image, bottom, data, least))
                compare.within(found, x.astype(np.float64), Band(0.0, "c_skip is 1 and c_out is 0"), f"f at the least sigma, {what}")


def test_gradients_are_the_coefficients(subject: Subject) -> None:
    """corrupt is linear, exactly where numbers are; torch's gradients are its coefficients, and pass through all else."""
    a_B, b_B = np.asarray([0.5, 0.25, 1.0], dtype=np.float32), np.asarray([0.5, 2.0, 0.125], dtype=np.float32)
    x_BD, n_BD = np.random.default_rng(0).integers(-8, 9, (2, 3, 5)).astype(np.float32)
    x, noise, more, a, b = (subject.asarray(v) for v in (x_BD, n_BD, np.ones_like(x_BD), a_B, b_B))
    for called, moved, slope_B in (("x", (x + more, noise), a_B), ("noise", (x, noise + more), b_B)):
        difference = diffusion.corrupt(*moved, a, b) - diffusion.corrupt(x, noise, a, b)
        compare.same_bits(subject.asnumpy(difference), np.repeat(slope_B[:, None], 5, axis=1), f"slope of corrupt in {called}")
    if type(x).__module__.partition(".")[0] != "torch":
        return
    import torch

    def slopes(function: Any) -> list[Values]:
        leaves = [subject.asarray(v).requires_grad_() for v in (x_BD, n_BD)]
        return [subject.asnumpy(g) for g in torch.autograd.grad(function(*leaves).sum(), leaves)]

    for slope_BD, slope_B in zip(slopes(lambda x, n: diffusion.corrupt(x, n, a, b)), (a_B, b_B), strict=True):
        compare.same_bits(slope_BD, np.repeat(slope_B[:, None], 5, axis=1), "torch's gradient of corrupt")
    wanted = [subject.asnumpy(v) for v in diffusion.consistency_scalings(b)[:2]]
    for slope_BD, slope_B in zip(slopes(lambda x, n: diffusion.consistency(n, x, b)), wanted, strict=True):
        compare.same_bits(slope_BD, np.repeat(slope_B[:, None], 5, axis=1), "torch's gradient of consistency")
    for prediction in PREDICTIONS:
        inverse_B22 = inverse(matrix(prediction, a_B, b_B))
        weight_B12 = np.stack([b_B, a_B], axis=1)[:, None, :].astype(np.float64)
        exact_B2, terms_B2 = (weight_B12 @ inverse_B22)[:, 0], (weight_B12 @ np.abs(inverse_B22))[:, 0]
        found = slopes(lambda x, p, kind=prediction: diffusion.ddim_step(kind, p, x, a, b, b, a))
        for place, slope_BD in enumerate(found):
            expected_BD, terms_BD = (np.repeat(v_B2[:, place, None], 5, axis=1) for v_B2 in (exact_B2, terms_B2))
            compare.within(slope_BD, expected_BD, rounded(7, terms_BD, "float32"), f"torch's gradient of a step of {prediction}")
