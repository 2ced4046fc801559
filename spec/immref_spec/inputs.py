"""What may be passed to the public functions, and the outcome that is written down for it (pairing.md, 1.4).

Three tables: FUNCTIONS, the public functions and the arrays that each takes; ARRAYS, odd arrays; SETTINGS, odd values of
everything else. An outcome is a `Refusal`, or None: welcome, with the right value.

Shape suffixes: B images, K candidates, D numbers per image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from hypothesis import strategies as st

import immref
from immref import KNN, BackendError, ImageScaling, LinearAssignment, Pairing, Seed
from immref._checks import library_of
from immref_spec.strategies import Case, Values
from immref_spec.subjects import DTYPES, Subject

SHAPES = ((1, 1), (4, 3), (4, 66), (4, 2, 3, 11))  # B = 1, D = 1, either side of D = 64; few sizes, for JAX compiles each
COUNT = 4  # candidates
SCALE = 0.5  # float16's largest numbers can bear it
SEEDS = st.integers(0, 9999)
PLACES = ("x", "candidates", "noise")
ABSENT = object()


@dataclass(frozen=True)
class Refusal:
    """A kind of error and the words of its sentence; '{name}' stands for the argument, '{row}' for the last row.

    With `looks` only functions that look at the values refuse; with `or_right` a backend may find the right value instead.
    """

    error: type[Exception]
    words: tuple[str, ...]
    looks: bool = False
    or_right: bool = False


@dataclass(frozen=True)
class Given:
    """The arguments of a call."""

    x: Any
    candidates: Any
    noise: Any
    group: Any
    backend: Any

    @classmethod
    def of(cls, subject: Subject, values: dict[str, Values]) -> "Given":
        """Arguments as every function likes them."""
        return cls(**{place: subject.asarray(v.copy()) for place, v in values.items()}, backend=subject.backend)


def good(subject: Subject, case: Case, dtype: str) -> dict[str, Values]:
    """A good value for each place, labels of two kinds among them."""
    labels_B = np.arange(case.shape[0], dtype=subject.index_dtype) % 2
    return {"x": case.images(dtype), "candidates": case.candidates(dtype), "noise": case.noises(dtype), "group": labels_B}


def cases(seed: int, dtypes: tuple[str, ...]) -> Iterator[tuple[Case, str]]:
    """A case of every shape, the dtypes in turn."""
    for place, shape in enumerate(SHAPES) if dtypes else ():
        yield Case(shape, COUNT, "normal", seed), dtypes[(seed + place) % len(dtypes)]


@dataclass(frozen=True)
class Call:
    """A call of a public function: the arrays that it takes, its other arguments, and where it looks at values."""

    function: Callable[..., Any]
    takes: tuple[str, ...] = ("x",)
    options: dict[str, Any] = field(default_factory=dict)
    looks: str = "on the CPU"  # or 'never', 'always'
    dispatched: bool = True  # to a backend

    def __call__(self, given: Given, **more: Any) -> Any:
        """Call with the arrays given; `more` wins over the options."""
        arrays = {place: getattr(given, place) for place in self.takes}
        backend = {"backend": given.backend} if self.dispatched else {}
        return self.function(**arrays, **backend | self.options | more)


def record(make: Callable[..., Pairing]) -> Call:
    """A record, which takes no arrays."""
    return Call(make, (), dispatched=False)


SEED = {"rng": 1}
HALF, LABELLED = KNN(COUNT, scale=SCALE), LinearAssignment(within="label")
SQUARES = {"cost": "sqeuclidean", "solver": "scipy"}

FUNCTIONS: dict[str, Call] = {
    "vanilla": Call(immref.vanilla, options=SEED, looks="never"),
    "knn, k = 1": Call(immref.knn, options=SEED | {"k": 1}),
    "knn": Call(immref.knn, options=SEED | {"k": COUNT}),
    "knn by dot": Call(immref.knn, options=SEED | {"k": COUNT, "score": "dot"}),
    "knn of candidates": Call(immref.knn, ("x", "candidates")),
    "knn of candidates by dot": Call(immref.knn, ("x", "candidates"), {"k": COUNT, "score": "dot"}),
    "linear_assignment": Call(immref.linear_assignment, ("x", "group"), SEED, "always"),
    "linear_assignment of noise": Call(immref.linear_assignment, ("x", "noise"), looks="always"),
    "linear_assignment of noise by squares": Call(immref.linear_assignment, ("x", "noise", "group"), SQUARES, "always"),
    "pair": Call(immref.pair, options=SEED | {"pairing": HALF}),
    "pair within labels": Call(immref.pair, ("x", "group"), SEED | {"pairing": LABELLED}, "always"),
    "scale": Call(immref.scale, options={"factor": 2.0}, looks="never", dispatched=False),
}


@dataclass(frozen=True)
class Odd:
    """An odd array: how to make it of good values (ABSENT where the library has no such thing), its outcome and its places.

    With `host` it is a NumPy array on every backend, and so are the arrays beside it.
    """

    make: Callable[[Subject, Values], Any]
    outcome: Refusal | None = None
    places: tuple[str, ...] = PLACES
    host: bool = False
    dtypes: tuple[str, ...] = DTYPES  # in which it is odd

    def home(self, subject: Subject) -> Subject:
        """The subject on arrays like this one."""
        return replace(subject, asarray=np.array, asnumpy=np.asarray) if self.host else subject

    def drawn(self, subject: Subject) -> tuple[str, ...]:
        """The dtypes to try on the subject; none for NumPy's arrays where they go to the reference, whose own run tries them."""
        elsewhere = library_of(subject.asarray(np.zeros(1, dtype=np.float32))) != "numpy" and subject.backend.accepts(np.zeros(1))
        return () if self.host and elsewhere else tuple(dtype for dtype in subject.dtypes if dtype in self.dtypes)


def only(library: str, make: Callable[[Any], Any]) -> Callable[[Subject, Values], Any]:
    """Make an array of the subject's own plain one, where that is an array of `library`."""

    def of(subject: Subject, values: Values) -> Any:
        plain = subject.asarray(values.copy())
        return make(plain) if library_of(plain) == library else ABSENT

    return of


def own(change: Callable[[Values], Any]) -> Callable[[Subject, Values], Any]:
    """An array of the subject's library."""
    return lambda subject, values: subject.asarray(change(values))


def raw(change: Callable[[Values], Any]) -> Callable[[Subject, Values], Any]:
    """NumPy's, or no array at all."""
    return lambda _, values: change(values)


def transposed(subject: Subject, values: Values) -> Any:
    """Stored with its axes in reverse: Fortran's order."""
    backwards = subject.asarray(np.ascontiguousarray(values.T))
    return array_namespace(backwards).permute_dims(backwards, tuple(reversed(range(values.ndim))))


def repeated(subject: Subject, values: Values) -> Any:
    """Its first row, shown for every row without a copy."""
    first = subject.asarray(values[:1].copy())
    return array_namespace(first).broadcast_to(first, values.shape)


def read_only(values: Values) -> Values:
    """Not writeable."""
    values = values.copy()
    values.flags.writeable = False
    return values


def spoiled(bad: float) -> Callable[[Subject, Values], Any]:
    """With a bad number at the end of its last row."""

    def make(subject: Subject, values: Values) -> Any:
        values = values.copy()
        values.flat[-1] = bad
        return subject.asarray(values)

    return make


def too_large(subject: Subject, values: Values) -> Any:
    """Finite numbers whose squares are not, at least two to a row: the norm of one may be had without a square."""
    size = 4 * np.sqrt(np.finfo(values.dtype).max)
    return subject.asarray(np.full_like(values, size)) if values.shape[-1] > 1 else ABSENT


def other_dtype(subject: Subject, values: Values) -> Any:
    """In another of the library's floating dtypes, where it has two."""
    others = [dtype for dtype in subject.dtypes if dtype != values.dtype]
    return subject.asarray(values.astype(others[0])) if others else ABSENT


def other_library(subject: Subject, values: Values) -> Any:
    """A NumPy array, or for NumPy one of array-api-strict where that is installed."""
    if library_of(subject.asarray(values)) != "numpy":
        return values.copy()
    try:
        import array_api_strict
    except ImportError:
        return ABSENT
    return array_api_strict.asarray(values.astype(np.float32))  # it has no float16


def other_device(subject: Subject, values: Values) -> Any:
    """On the first device of array-api-strict, which no subject uses."""
    array = subject.asarray(values)
    xp = array_namespace(array)
    return xp.asarray(values, device=xp.Device("CPU_DEVICE")) if library_of(array) == "array_api_strict" else ABSENT


def long_double(values: Values) -> Any:
    """In NumPy's long double, where it is wider than float64."""
    return values.astype(np.longdouble) if np.finfo(np.longdouble).bits > 64 else ABSENT


def keys(_: Any) -> Any:
    """JAX's random keys instead of numbers."""
    import jax

    return jax.random.split(jax.random.key(0), (2, 2))


def parameter(x: Any) -> Any:
    """A torch.nn.Parameter: a subclass of Tensor."""
    import torch

    return torch.nn.Parameter(x)


EMPTY = Refusal(ValueError, ("{name} must not be empty",))
SHAPE = Refusal(ValueError, ("{name} must have shape",))
REAL = Refusal(TypeError, ("{name} must be a real floating array",))
NO_DATA = Refusal(ValueError, ("{name} must", "meta"))
NO_ARRAY = Refusal(TypeError, ("{name} must be an array",))
NOT_FINITE = Refusal(ValueError, ("{name} must be finite", "row {row}"), looks=True)
OVERFLOW = Refusal(ValueError, ("{name} ", "finite but", "overflows"), looks=True, or_right=True)
NO_INTEGERS = Refusal(TypeError, ("group must be an", "integer"))
OTHERS, LABELS = ("candidates", "noise"), ("group",)


def kind(*words: str) -> Refusal:
    """A TypeError that names the argument, and what came."""
    return Refusal(TypeError, ("{name} must", *words))


ARRAYS: dict[str, Odd] = {
    # welcome
    "as they come": Odd(own(np.copy)),
    "NumPy's": Odd(raw(np.copy), host=True),
    "transposed": Odd(transposed),
    "every second number": Odd(lambda subject, v: subject.asarray(np.repeat(v, 2, axis=-1))[..., ::2]),
    "one row repeated": Odd(repeated),
    "negative strides": Odd(raw(lambda v: v[::-1, ..., ::-1].copy()[::-1, ..., ::-1]), host=True),
    "read-only": Odd(raw(read_only), host=True),
    "float16 at its largest": Odd(own(lambda v: np.copysign(np.finfo(np.float16).max, v)), dtypes=("float16",)),
    "requires gradients": Odd(only("torch", lambda x: x.requires_grad_())),
    "within a graph": Odd(only("torch", lambda x: x.requires_grad_() * 1)),
    "parameter": Odd(only("torch", parameter)),
    # refused for their shape
    "no rows": Odd(own(lambda v: v[:0]), EMPTY),
    "empty rows": Odd(own(lambda v: v[..., :0]), EMPTY),
    "no candidates": Odd(own(lambda v: v[:, :0]), EMPTY, ("candidates",)),
    "zero-dimensional": Odd(own(lambda v: v.reshape(-1)[:1].reshape(())), SHAPE),
    "one-dimensional": Odd(own(lambda v: v.reshape(-1)), SHAPE),
    "a row too many": Odd(own(lambda v: np.concatenate([v, v[:1]])), SHAPE, OTHERS),
    "rows too wide": Odd(own(lambda v: np.concatenate([v, v], axis=-1)), SHAPE, OTHERS),
    "an axis too many": Odd(own(lambda v: v[..., None]), SHAPE, OTHERS),
    # refused for their kind
    "integers": Odd(own(lambda v: v.astype(np.int32)), REAL),
    "booleans": Odd(own(lambda v: v > 0), REAL),
    "complex": Odd(own(lambda v: v.astype(np.complex64)), REAL),
    "objects": Odd(raw(lambda v: v.astype(object)), REAL, host=True),
    "strings": Odd(raw(lambda v: v.astype(str)), REAL, host=True),
    "list": Odd(raw(np.ndarray.tolist), NO_ARRAY),
    "number": Odd(raw(lambda v: float(v.flat[0])), NO_ARRAY),
    "name": Odd(raw(str), NO_ARRAY),
    "nothing": Odd(raw(lambda _: None), NO_ARRAY, ("x",)),
    "matrix": Odd(raw(lambda v: v.reshape(len(v), -1).view(np.matrix)), kind("matrix"), host=True),
    "masked": Odd(raw(lambda v: np.ma.masked_less(v, 0)), kind("MaskedArray"), host=True),
    "big-endian": Odd(raw(lambda v: v.astype(v.dtype.newbyteorder())), kind(str(np.dtype("f4").newbyteorder())[:2]), host=True),
    "long double": Odd(raw(long_double), kind(str(np.dtype(np.longdouble))), host=True),
    "float8": Odd(only("torch", lambda x: x.to(array_namespace(x).float8_e4m3fn)), kind("float8")),
    "random keys": Odd(only("jax", keys), kind("be")),
    "sparse": Odd(only("torch", lambda x: x.to_sparse()), kind("sparse")),
    "without data": Odd(only("torch", lambda x: x.to("meta")), NO_DATA),
    "another dtype": Odd(other_dtype, kind("have the dtype of x"), OTHERS),
    "another library": Odd(other_library, kind("come from the library of x"), OTHERS),
    "another device": Odd(other_device, Refusal(ValueError, ("{name} must be on the device of x",)), OTHERS),
    # refused for their values
    "NaN": Odd(spoiled(np.nan), NOT_FINITE),
    "infinity": Odd(spoiled(np.inf), NOT_FINITE),
    "minus infinity": Odd(spoiled(-np.inf), NOT_FINITE),
    "too large to square": Odd(too_large, OVERFLOW, dtypes=("float32", "float64")),
    # labels: welcome, then refused
    "int8 labels": Odd(own(lambda v: v.astype(np.int8)), None, LABELS),
    "uint8 labels": Odd(own(lambda v: v.astype(np.uint8)), None, LABELS),
    "read-only labels of NumPy": Odd(raw(read_only), None, LABELS),
    "labels, strides negative": Odd(raw(lambda v: v[::-1].copy()[::-1]), None, LABELS),
    "labels, big-endian": Odd(raw(lambda v: v.astype(v.dtype.newbyteorder())), None, LABELS),
    "too few labels": Odd(own(lambda v: v[1:]), SHAPE, LABELS),
    "labels in a column": Odd(own(lambda v: v[:, None]), SHAPE, LABELS),
    "one label": Odd(own(lambda v: v[:1].reshape(())), SHAPE, LABELS),
    "floats for labels": Odd(own(lambda v: v.astype(np.float32)), NO_INTEGERS, LABELS),
    "booleans for labels": Odd(own(lambda v: v > 0), NO_INTEGERS, LABELS),
    "objects for labels": Odd(raw(lambda v: v.astype(object)), NO_INTEGERS, LABELS),
    "list of labels": Odd(raw(np.ndarray.tolist), NO_INTEGERS, LABELS),
    "name for labels": Odd(raw(str), NO_INTEGERS, LABELS),
    "masked labels": Odd(raw(lambda v: np.ma.masked_less(v, 1)), kind("MaskedArray"), LABELS),
    "labels without data": Odd(only("torch", lambda x: x.to("meta")), NO_DATA, LABELS),
}


@dataclass(frozen=True)
class Setting:
    """An argument that is no array: the calls that take it, values refused, and values that mean the same as a plain one."""

    calls: tuple[Call, ...]
    refused: tuple[tuple[Any, Refusal], ...]
    welcome: tuple[tuple[Any, Any], ...] = ()
    argument: str = ""  # where the row's name is another


def each(refusal: Refusal, *values: Any) -> tuple[tuple[Any, Refusal], ...]:
    """The same refusal for every value."""
    return tuple((value, refusal) for value in values)


def misnamed(error: type[Exception] = ValueError, word: str = "{name} must be one of", **meant: str) -> tuple[tuple[Any, Refusal], ...]:
    """Near misses, each with the name that was meant, and a name like none."""
    near = tuple((wrong, Refusal(error, (word, repr(wrong), f"did you mean {right!r}"))) for wrong, right in meant.items())
    return (*near, ("none of them", Refusal(error, (word, "'none of them'"))))


KIND, RANGE = kind("be"), Refusal(ValueError, ("{name} must be",))
NO_NAME = each(Refusal(ValueError, ("{name} must be one of",)), "", None, 2, ["l2"])
VANILLA, DRAWN, CHOSEN = Call(immref.vanilla, options=SEED), Call(immref.knn, options=SEED), Call(immref.knn, ("x", "candidates"))
ASSIGNED, PERMUTED = Call(immref.linear_assignment, options=SEED), Call(immref.linear_assignment, ("x", "noise"))
OF_K = Call(immref.knn, options=SEED | {"k": COUNT})
PAIRED = Call(immref.pair, options=SEED | {"pairing": HALF})

SETTINGS: dict[str, Setting] = {
    "k": Setting(
        (DRAWN, CHOSEN, record(KNN)),
        each(RANGE, 0, -1, np.int64(0))
        + each(KIND, "8", 4.0, True, 4 + 0j, [4], np.float64(4), np.bool_(True), np.asarray(4.5), np.asarray(True), np.asarray([4])),
        ((np.int64(COUNT), COUNT), (np.uint8(COUNT), COUNT), (np.asarray(COUNT), COUNT)),
    ),
    "score": Setting((OF_K, CHOSEN, record(partial(KNN, COUNT))), misnamed(L2="l2", dott="dot") + NO_NAME, ((np.str_("dot"), "dot"),)),
    "cost": Setting(
        (ASSIGNED, PERMUTED, record(LinearAssignment)), misnamed(L2="l2", sqeuclid="sqeuclidean") + NO_NAME, ((np.str_("l2"), "l2"),)
    ),
    "solver": Setting((ASSIGNED, PERMUTED, record(LinearAssignment)), misnamed(SciPy="scipy", auctoin="auction") + NO_NAME),
    "within": Setting((record(LinearAssignment),), misnamed(labels="label", Batch="batch") + NO_NAME),
    "method": Setting((record(Pairing),), misnamed(KNN="knn", linear_asignment="linear_assignment") + NO_NAME),
    "scale": Setting(
        (Call(lambda x, scale: immref.scale(x, scale), dispatched=False), record(ImageScaling), record(partial(KNN, COUNT))),
        each(RANGE, 0, -1.0, np.nan, np.inf, np.float32(0), 10**400)
        + each(KIND, "2", None, True, np.bool_(True), 2 + 0j, [2.0], np.asarray([2.0])),
        ((2, 2.0), (np.float32(2), 2.0), (np.int64(2), 2.0), (Fraction(2), 2.0)),
    ),
    "rng": Setting(
        (VANILLA, OF_K, ASSIGNED, PAIRED),
        each(Refusal(ValueError, ("seed must be",)), -1, 2**64)
        + each(KIND, "0", b"0", 1.0, True, np.bool_(True), [1], (1, 2), Seed, object(), np.random.PCG64(0), np.random.SeedSequence(0))
        + each(KIND, np.float64(1), np.asarray(1.5), np.asarray(True), np.asarray([1]), np.asarray([1, 2])),
        ((Seed(3), 3), (np.int64(3), 3), (np.uint8(3), 3), (np.asarray(3), 3)),
    ),
    "rng beside noises": Setting(
        (CHOSEN, PERMUTED), each(Refusal(TypeError, ("rng must be left out",)), 0, False, "0", Seed(0), np.random.PCG64(0)), argument="rng"
    ),
    "pairing": Setting(
        (PAIRED,),
        each(KIND, "knn", None, KNN, 8, {"method": "knn"}, [KNN(8)])
        + each(Refusal(ValueError, ("group must hold the labels", "None")), LABELLED)
        + each(Refusal(ValueError, ("x ", "finite")), LinearAssignment(scale=1e308)),
    ),
    "backend": Setting(
        (VANILLA, CHOSEN, PAIRED),
        each(KIND, 3, True, object(), np, []) + misnamed(BackendError, "unknown backend", Torch="torch", refernce="reference"),
    ),
}
