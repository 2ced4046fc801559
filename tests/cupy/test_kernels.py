"""The .cu files: they compile for GPUs, draw the words of Philox, keep their warps together; wrong ones are rejected by a law."""

import cupy
import cupy_double
import numpy as np
import pytest

import immref_cupy
from immref import Seed
from immref_cupy import kernels
from immref_spec import subjects
from immref_spec.judging import judge

WORDS = """
extern "C" __global__ void words(unsigned* out, const unsigned* counter, const Word* key)
{
    const Four four = philox(*key, counter[0], counter[1], counter[2], counter[3]);
    if (threadIdx.x < 4)
        out[threadIdx.x] = four.word[threadIdx.x];
}
"""
DIVERGING = """
extern "C" __global__ void diverging(REAL* out)
{
    if (threadIdx.x < 16)
        __syncthreads();
}
extern "C" __global__ void leaving(REAL* out)
{
    if (threadIdx.x < 32)
        __syncthreads();
}
"""
C_TYPES = cupy_double.C_TYPES | {"unsigned": "uint32"}


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("real", ["float32", "float64"])
def test_nvrtc_compiles_every_kernel_as_cupy_does(architecture, real):
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(kernels.source(), "immref", [], [])
    nvrtc.compileProgram(program, (*kernels.options(real), f"--gpu-architecture={architecture}", "-ftz=true"))
    code = nvrtc.getCUBIN(program)
    for name in ("normal", "radial", "collapse", "draw_and_collapse", "nearest_candidate", "bid", "award"):
        assert name.encode() in code


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], 0x299F31D0_A4093822, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ],
)
def test_philox_gives_its_published_words(counter, key, words):
    module = cupy.RawModule(code=kernels.source() + WORDS, options=kernels.options("float32"))
    out = cupy.zeros(4, dtype="uint32")
    given = (out, cupy.asarray(np.asarray(counter, dtype=np.uint32)), cupy.asarray(np.asarray([key], dtype=np.uint64)))
    module.get_function("words")((1,), (32,), given)
    assert out.get().tolist() == words


@pytest.mark.parametrize(("kernel", "why"), [("diverging", "some lanes of a warp wait"), ("leaving", "some warps of a block wait")])
def test_the_double_sees_threads_that_part(kernel, why):
    module = cupy.RawModule(code=kernels.source() + DIVERGING, options=kernels.options("float32"))
    for _ in range(2):  # and lives on
        with pytest.raises(RuntimeError, match=why):
            module.get_function(kernel)((1,), (64,), (cupy.zeros(1, dtype="float32"),))


MUTANTS = {
    "a thread reads what its warp has not written yet": (
        "        of_warp[threadIdx.x / WARP] = mine;\n    __syncthreads();",
        "        of_warp[threadIdx.x / WARP] = mine;",
        "laws_nearest.test_the_winner_is_nearest",
    ),
    "half of each warp is left out of the sums": (
        "step > 0; step /= 2)\n            sums",
        "step > 1; step /= 2)\n            sums",
        "laws_collapse.test_it_agrees_with_the_formula",
    ),
    "the last of equal candidates wins": (
        "score == other.score && index < other.index",
        "score == other.score && index > other.index",
        "laws_nearest.test_ties_go_to_the_first",
    ),
    "NaN is passed over": (
        "return lost && (!other_lost || index < other.index);",
        "return other_lost;",
        "laws_nearest.test_a_nan_candidate_is_not_passed_over",
    ),
    "all threads draw the same": (
        "(unsigned)(base / A_COUNTER) + threadIdx.x",
        "(unsigned)(base / A_COUNTER)",
        "laws_draws.test_normal_is_standard_normal",
    ),
    "both numbers of a pair have one angle": (
        "length * sine;",
        "length * cosine;",
        "laws_draws.test_normal_is_standard_normal",
    ),
    "every draw is the first": (
        "const Drawn drawn = {*key, blockIdx.x, draw};\n    for",
        "const Drawn drawn = {*key, blockIdx.x, 0};\n    for",
        "laws_draws.test_a_generator_moves_on",
    ),
    "chi2 has a third too little": (
        "drawn.s = 2 * d * v;",
        "drawn.s = 2 * (d - 1. / 6) * v;",
        "laws_draws.test_radial_follows_its_laws",
    ),
    "an image of zeros has a direction": (
        "const bool null = sums[0] == 0;",
        "const bool null = false;",
        "laws_collapse.test_it_agrees_with_the_formula",
    ),
    "the noise is not moved along the image": (
        "stretch * g[part] + shift * x[place]",
        "stretch * g[part]",
        "laws_collapse.test_it_rebuilds_the_winner",
    ),
    "the scalars are drawn with the noise's number": (
        "blockIdx.x, draw + 1, count - 1.",
        "blockIdx.x, draw, count - 1.",
        "laws_draws.test_the_fused_draw_is_its_parts",
    ),
    "a former row keeps its column": (
        "taken[owner[column]] = -1;",
        ";",
        "laws_assignment.test_a_certified_gap_is_true_and_small",
    ),
    "rows bid without looking at the second best": (
        "second = fmaxf(second, other_top);",
        ";",
        "laws_assignment.test_a_certified_gap_is_true_and_small",
    ),
}


def forget():
    kernels.module.cache_clear()
    kernels.kernel_of.cache_clear()


@pytest.fixture
def mutated(monkeypatch):
    """Replace a place of the kernels' text."""
    right = kernels.source()

    def mutate(place, wrong):
        assert right.count(place) == 1
        monkeypatch.setattr(kernels, "source", lambda: right.replace(place, wrong))
        forget()

    yield mutate
    forget()


@pytest.mark.parametrize("story", MUTANTS)
def test_a_law_rejects_the_kernel_where(story, mutated):
    place, wrong, law = MUTANTS[story]
    mutated(place, wrong)
    sentence = judge(law, subjects.of(immref_cupy))
    assert sentence is not None
    assert not sentence.startswith("raised"), sentence


def test_a_kernel_that_parts_its_warps_is_told(mutated):
    mutated("if (row >= count || taken[row] >= 0)", "if (row >= count || threadIdx.x % 2 || taken[row] >= 0)")
    x = immref_cupy.asarray(np.random.default_rng(0).standard_normal((300, 70)).astype(np.float32), None)
    with pytest.raises(RuntimeError, match="bid: some lanes of a warp wait where others do not"):
        immref_cupy.assign_batch(x, immref_cupy.normal(immref_cupy.generator(Seed(0), x), (300, 70), x), "l2", "auction")
