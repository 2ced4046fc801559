"""The CuPy backend around its kernels: who may hand in arrays, what seeds it, and the sentence where it cannot run."""

from contextlib import nullcontext
from types import SimpleNamespace

import cupy
import cupy_double
import numpy as np
import pytest
import torch

import immref
import immref_cupy
from immref import BackendError, Seed, dispatch
from immref_cupy import arrays, kernels, machine
from immref_spec import subjects
from immref_spec.judging import judge, laws

X = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)
GUEST_LAWS = ("laws_contract", "laws_nearest", "laws_collapse", "laws_assignment", "laws_pair", "laws_torch")


@pytest.fixture
def guests(monkeypatch):
    """CPU tensors that play tensors on a GPU: the same memory under torch and under the double."""
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(immref_cupy, "accepts", lambda array: isinstance(array, torch.Tensor | cupy.ndarray))
    return subjects._subject("cupy-double on tensors", immref_cupy, torch.tensor, immref_cupy.asnumpy)


@pytest.mark.parametrize("law", [law for law in laws() if law.startswith(GUEST_LAWS)])
def test_a_law_holds_for_tensors(guests, law):
    assert judge(law, guests) is None


def test_tensors_are_seen_where_they_lie_and_get_tensors_back(guests):
    x = torch.from_numpy(X)
    assert arrays.seen(x)._values.ctypes.data == x.data_ptr()
    paired = immref.pair(x, immref.KNN(4), rng=Seed(0), backend="cupy")
    assert {type(paired.noise), type(paired.index), type(paired.before)} == {torch.Tensor}
    assert paired.noise.dtype is torch.float32
    assert not paired.noise.requires_grad


def test_a_tensor_that_is_not_contiguous_is_paired_as_its_copy(guests):
    wide = torch.from_numpy(np.tile(X.reshape(6, -1), 2))
    strided = wide[:, ::2]
    expected = immref.knn(strided.contiguous(), 4, rng=1, backend="cupy")
    assert torch.equal(immref.knn(strided, 4, rng=1, backend="cupy"), expected)


def test_torch_generators_seed_tensors_and_the_default_one_governs(guests):
    x = torch.from_numpy(X)
    once, again = (immref.vanilla(x, rng=torch.Generator().manual_seed(3), backend="cupy") for _ in range(2))
    assert torch.equal(once, again)
    torch.manual_seed(5)
    first, second = (immref.vanilla(x, backend="cupy") for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(immref.vanilla(x, backend="cupy"), first)
    assert not torch.equal(first, second)


def test_generators_of_cupy_seed_and_move_on():
    x = cupy.asarray(X)
    one, same = (cupy_double.Generator(4) for _ in range(2))
    first, second = (immref.vanilla(x, rng=one, backend="cupy").get() for _ in range(2))
    assert np.array_equal(immref.vanilla(x, rng=same, backend="cupy").get(), first)
    assert not np.array_equal(first, second)


def test_a_generator_of_another_device_is_refused():
    with pytest.raises(ValueError, match=r"rng must be a generator on the device of x \(cuda, for torch's tensors\), got torch's on cpu"):
        immref.vanilla(cupy.asarray(X), rng=torch.Generator(), backend="cupy")
    with pytest.raises(
        TypeError, match=r"rng must be None, an int, an immref\.Seed, or a generator of CuPy, torch or NumPy, got builtins\.str"
    ):
        immref.vanilla(cupy.asarray(X), rng="a", backend="cupy")


def test_numpy_goes_to_the_gpu_and_comes_back():
    noise = immref.knn(X, 4, rng=0, backend="cupy")
    assert type(noise) is np.ndarray
    assert np.array_equal(noise, immref.knn(cupy.asarray(X), 4, rng=0).get())


def test_cupy_arrays_choose_this_backend():
    assert str(dispatch.choose(cupy.asarray(X))).startswith("cupy (cupy ")


def test_tensors_on_the_cpu_are_refused():
    with pytest.raises(TypeError, match="backend 'cupy' takes its own arrays or NumPy's, got torch on cpu; set IMMREF_BACKEND=reference"):
        immref.knn(torch.from_numpy(X), 4, backend="cupy")


def test_the_first_noise_is_vanillas_in_both_dtypes():
    for dtype in ("float32", "float64"):
        x = cupy.asarray(np.tile(X, (5, 1, 1, 1)).astype(dtype))
        fused, vanilla = immref.knn(x, 2, rng=9).get(), immref.vanilla(x, rng=9).get()
        rows = (fused == vanilla).reshape(30, -1).all(axis=1)
        assert 5 < rows.sum() < 25  # where candidate 0 won, and where it did not


def test_blocks_are_whole_warps_and_depend_on_the_row_alone():
    assert [kernels.threads_for(numbers) for numbers in (1, 64, 257, 3072, 4096, 16384, 10**6)] == [32, 32, 64, 512, 512, 512, 512]


def test_too_little_memory_for_the_gains_is_said(monkeypatch):
    def refuse(*_):
        raise MemoryError("Out of memory allocating 4,000,000,000 bytes")

    monkeypatch.setattr(immref_cupy.assignment.assignment, "auctioned", refuse)
    x = cupy.asarray(np.ones((300, 70), dtype=np.float64))
    with pytest.raises(
        MemoryError, match=r"assignment of 300 images needs several matrices of 1 MiB on <CUDA Device 0>, more than is free"
    ):
        immref.linear_assignment(x)


MACHINES = {
    "there is no CUDA driver on this machine": {"driverGetVersion": lambda: 0},
    r"the CUDA driver knows CUDA up to 12\.4, this CuPy needs 13\.0; update it, or install the CuPy that is made for CUDA 12": {
        "driverGetVersion": lambda: 12040
    },
    r"CUDA does not start \(no CUDA-capable device is detected\)": {"getDeviceCount": lambda: _raise("no CUDA-capable device is detected")},
}


def _raise(text):
    raise cupy.cuda.runtime.CUDARuntimeError(text)


@pytest.mark.parametrize(("sentence", "parts"), MACHINES.items(), ids=MACHINES)
def test_a_machine_that_cannot_run_it_is_told_why(monkeypatch, sentence, parts):
    for name, part in parts.items():
        monkeypatch.setattr(cupy.cuda.runtime, name, part)
    with pytest.raises(BackendError, match=sentence):
        immref.knn(X, 4, backend="cupy")


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("cpu", r"it needs a GPU, cuda or cuda:0, got device 'cpu'"),
        ("cuda:x", r"it needs a GPU, cuda or cuda:0, got device 'cuda:x'"),
        ("cuda:3", r"device 'cuda:3' does not exist, the number of GPUs is 1"),
    ],
)
def test_a_device_that_it_does_not_have_is_refused(monkeypatch, device, sentence):
    monkeypatch.setenv(dispatch.DEVICE_VARIABLE, device)
    with pytest.raises(BackendError, match=sentence):
        immref.knn(X, 4, backend="cupy")


def test_two_builds_of_cupy_are_told(monkeypatch):
    names = ["numpy", "cupy-cuda12x", "cupy-cuda13x", None]
    monkeypatch.setattr(machine, "distributions", lambda: [SimpleNamespace(metadata={"Name": name}) for name in names])
    machine.installed_builds.cache_clear()
    assert machine.unavailable(None).startswith("cupy-cuda12x and cupy-cuda13x are installed together and overwrite each other")
    assert machine.installed_builds() == ("cupy-cuda12x", "cupy-cuda13x")
    machine.installed_builds.cache_clear()


def test_a_missing_compiler_is_told(monkeypatch):
    def missing():
        raise RuntimeError("libnvrtc.so.13 could not be loaded")

    monkeypatch.setattr(cupy.cuda, "nvrtc", SimpleNamespace(getVersion=missing))
    machine.compiler_missing.cache_clear()
    sentence = machine.unavailable(None)
    machine.compiler_missing.cache_clear()
    assert sentence == "CUDA's compiler NVRTC is not found (libnvrtc.so.13 could not be loaded); pip install 'cupy-cuda13x[ctk]'"


@pytest.mark.parametrize("solver", ["auto", "auction"])
@pytest.mark.parametrize("cost", ["l2", "sqeuclidean"])
def test_gains_beyond_float32_are_assigned(cost, solver):
    x = cupy.asarray(1e60 * np.random.default_rng(0).standard_normal((300, 70)))
    paired = immref.pair(x, immref.LinearAssignment(cost, solver), rng=0)
    expected = immref.pair(x.get(), immref.LinearAssignment(cost, "scipy"), noise=immref.vanilla(x, rng=0).get())
    gain, best = (float(np.sum(one.noise * x.get())) for one in (SimpleNamespace(noise=paired.noise.get()), expected))
    assert sorted(paired.index.get().tolist()) == list(range(300))
    assert cost == "l2" or 0.98 * best <= gain <= best * (1 + 1e-12)  # such distances are all the same


def test_the_double_refuses_what_cupy_refuses():
    x = cupy.asarray(X)
    for wrong in (lambda: np.asarray(x), lambda: np.sqrt(x), lambda: x + X, lambda: cupy.sum(X), lambda: cupy.sum(x, axes=1)):
        with pytest.raises(TypeError):
            wrong()
    for name in ("linear_sum_assignment", "cdist"):
        with pytest.raises(AttributeError):
            getattr(cupy, name)
