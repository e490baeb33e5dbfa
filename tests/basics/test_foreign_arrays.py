"""Arrays as files and other libraries hand them over, at every entry: the same bits, a stated dtype, or a clear error."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as g2

import planar
from planar.datasets import ImageData
from so3ntk import Flatten
from so3ntk.basics import arrays
from so3ntk.engine.activations import Relu
from so3ntk.engine.layers import Dense, GroupPool
from so3ntk.engine.network import serial
from so3ntk.learning.classifier import KernelClassifier
from so3ntk.learning.regressor import KernelRegressor
from so3ntk.matrices.gram import gram
from so3ntk.molecules import Environments, MoleculeData, environment_coefficients, environments
from so3ntk.molecules.coefficients import profile_gains
from so3ntk.molecules.neighbours import Edges
from so3ntk.sphere.signals import SphereSignal, rotate

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(size=(3, 6, 5, 2))  # Driscoll-Healy, bandlimit 3
IMAGES = RNG.normal(size=(3, 4, 4, 2))
VECTORS = RNG.normal(size=(3, 5))
FLM = np.asarray(SphereSignal.from_samples(SAMPLES, "dh", 3).to_coefficients())
H2O = g2("H2O")
NUMBERS, ALONE = H2O.numbers, np.zeros(3, int)
CNN = serial(planar.Lift((3, 3)), Relu(), GroupPool(), Dense())


def coefficients(positions, numbers=NUMBERS, molecule=ALONE, **settings):
    return environment_coefficients(positions, numbers, molecule, bandlimit=2, **settings)


def edges_with(offsets):
    pairs = np.array([[0, 1], [1, 0]])
    return coefficients(H2O.positions, edges=Edges(*pairs, offsets))


#: What is read, and a right array of floats.
ENTRIES = {
    "from_samples": (lambda x: SphereSignal.from_samples(x, "dh", 3).coefficients, SAMPLES),
    "healpix": (lambda x: SphereSignal.from_samples(x, "healpix", 2).coefficients, RNG.normal(size=(2, 12, 1))),
    "SphereSignal": (lambda x: SphereSignal(x, 3).coefficients, RNG.normal(size=(2, 9, 1))),
    "from_images": (lambda x: SphereSignal.from_images(x, 3).coefficients, IMAGES),
    "from_pyshtools": (
        lambda x: SphereSignal.from_pyshtools(x).coefficients,
        np.array([[[1.0, 0], [2, 3]], [[0, 0], [0, 4]]]),
    ),
    "to_map": (lambda x: SphereSignal(np.ones((1, 9, 1)), 3).to_map(x, [20, 30]), np.array([10.0, 40, -80])),
    "at": (SphereSignal(np.ones((1, 9, 1)), 3).at, np.eye(3)),
    "environment_coefficients": (coefficients, H2O.positions),
    "edges": (edges_with, np.array([[0, 0, 2.0], [0, 0, -2.0]])),
    "angular_width": (lambda x: profile_gains(x, 3, np.float32), np.array(0.25)),
    "planar.Lift": (planar.Lift((3, 3)).arrays, IMAGES),
    "planar.Flatten": (planar.Flatten().arrays, IMAGES),
    "Flatten": (Flatten().arrays, VECTORS),
    "ImageMotions": (lambda x: planar.motions("C4").move(x, 1), IMAGES),
    "kernel_fn": (lambda x: CNN.kernel_fn(x, None, "ntk"), IMAGES),
    "kernel_fn of vectors": (lambda x: serial(Flatten(), Dense()).kernel_fn(x, None, "nngp"), VECTORS),
}
each_entry = pytest.mark.parametrize("entry", ENTRIES)
pytestmark = pytest.mark.filterwarnings("ignore:the least-squares fit")


def assert_same_bits(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.dtype.isnative
    assert actual.tobytes() == expected.tobytes()


def readable(x):
    """The same numbers stored otherwise."""
    frozen = x.copy()
    frozen.flags.writeable = False
    spread = np.zeros((*x.shape, 2), x.dtype)
    spread[..., 0] = x
    return {
        "byte order": x.astype(x.dtype.newbyteorder("S")),
        "read-only": frozen,
        "transposed": np.array(x, order="F"),
        "strided": spread[..., 0],
        "reversed": x[..., ::-1].copy()[..., ::-1] if x.ndim else x,
        "unmasked": np.ma.array(x),
        "mask of nothing": np.ma.array(x, mask=np.zeros(x.shape, bool)),
        "JAX": jnp.asarray(x),
    }


@each_entry
def test_the_same_bits(entry):
    read, x = ENTRIES[entry]
    for dtype in (np.float64, np.float32):
        expected = read(x.astype(dtype))
        for stored in readable(x.astype(dtype)).values():
            assert_same_bits(read(stored), expected)


@each_entry
def test_half_and_extended_precision(entry):
    """Half precision is computed in single, extended in double."""
    read, x = ENTRIES[entry]
    half = x.astype(np.float16)
    for stored in (half, half.astype(">f2"), jnp.asarray(half)):
        assert_same_bits(read(stored), read(half.astype(np.float32)))
    brain = jnp.asarray(x, jnp.bfloat16)
    assert_same_bits(read(brain), read(np.asarray(brain, np.float32)))
    assert_same_bits(read(x.astype(np.longdouble)), read(x))


@each_entry
def test_masked_entries(entry):
    read, x = ENTRIES[entry]
    mask = np.arange(x.size).reshape(x.shape) >= x.size // 2
    first = tuple(int(i) for i in np.argwhere(mask)[0])
    masked = np.ma.array(x, mask=mask)
    with pytest.raises(ValueError, match=re.escape(f"are masked at index {first}")) as error:
        read(masked)
    assert "x.filled(value)" in str(error.value)
    assert_same_bits(read(masked.filled(masked.data)), read(x))


@pytest.mark.parametrize("entry", ["from_samples", "planar.Lift", "Flatten", "kernel_fn", "ImageMotions"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i8", "bool"])
def test_integers(entry, dtype):
    read, x = ENTRIES[entry]
    whole = np.round(3 * abs(x)).astype(dtype)
    for stored in (whole, whole.astype(whole.dtype.newbyteorder("S"))):
        assert_same_bits(read(stored), read(whole.astype(np.float64)))


@each_entry
@pytest.mark.parametrize("make", [lambda x: x.astype(str), lambda x: x.astype(object)])
def test_what_is_no_number(entry, make):
    read, x = ENTRIES[entry]
    with pytest.raises(TypeError, match="should be numbers, but their dtype is"):
        read(make(x))


def test_complex_coefficients():
    for dtype in (np.complex128, np.complex64):
        expected = SphereSignal.from_coefficients(FLM.astype(dtype)).coefficients
        for stored in readable(FLM.astype(dtype)).values():
            assert_same_bits(SphereSignal.from_coefficients(stored).coefficients, expected)
    extended = SphereSignal.from_coefficients(FLM.astype(np.clongdouble)).coefficients
    assert_same_bits(extended, SphereSignal.from_coefficients(FLM).coefficients)
    masked = np.ma.array(FLM)
    masked[1, 2, 3, 0] = np.ma.masked
    with pytest.raises(ValueError, match=r"from_coefficients: the coefficients are masked at index \(1, 2, 3, 0\)"):
        SphereSignal.from_coefficients(masked)


@pytest.mark.parametrize("name", ["planar.Lift", "planar.Flatten", "Flatten"])
def test_complex_inputs_are_refused(name):
    read, x = ENTRIES[name]
    for dtype in ("c16", ">c16"):
        with pytest.raises(TypeError, match="should be real, but their dtype is complex") as error:
            read(x.astype(dtype))
    remedy = re.search(r"np\.concatenate\(.*\)", str(error.value))
    assert remedy is not None
    read(eval(remedy[0], {"np": np, "x": x.astype(complex)}))


def test_lists_of_arrays():
    assert_same_bits(planar.Lift((3, 3)).arrays([*IMAGES.astype(">f8")]), IMAGES)
    masked = [np.ma.array(image, mask=image > 1.5) for image in IMAGES]
    first = tuple(int(i) for i in np.argwhere(IMAGES > 1.5)[0])
    with pytest.raises(ValueError, match=re.escape(f"planar.Lift: the images are masked at index {first}")):
        planar.Lift((3, 3)).arrays(masked)
    with pytest.raises(ValueError, match=r"planar\.Lift: the images should be an array, but"):
        planar.Lift((3, 3)).arrays([IMAGES[0], IMAGES[1, :3]])
    traced = jax.jit(lambda image: planar.Lift((3, 3)).arrays([image, image]))(IMAGES[0])
    assert_same_bits(traced, IMAGES[[0, 0]])
    with pytest.raises(ValueError, match=r"masked at index \(1,\)"):
        arrays.refuse_masked([1.0, np.ma.masked], "y")


def test_elements_and_molecules_in_other_byte_orders():
    expected = coefficients(H2O.positions)
    pairs = Edges(*(ends.astype(">i4") for ends in np.nonzero(~np.eye(3, dtype=bool))))
    assert_same_bits(coefficients(H2O.positions, NUMBERS.astype(">i4"), ALONE.astype(">i2")), expected)
    assert_same_bits(coefficients(H2O.positions, edges=pairs), expected)
    signal = SphereSignal(expected, 2)
    batch = Environments(signal, ALONE.astype(">i4"), NUMBERS.astype(">u2"))
    assert batch.numbers.tolist() == NUMBERS.tolist()
    assert_same_bits(batch[np.array([0], ">i8")].signal.coefficients, expected)
    assert_same_bits(signal[np.array([2, 0], ">i2")].coefficients, np.asarray(expected)[[2, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: coefficients(H2O.positions, m), "environment_coefficients: numbers are masked at index (1,)"),
        (lambda m: coefficients(H2O.positions, NUMBERS, m), "environment_coefficients: molecule are masked"),
        (lambda m: Edges(m, ALONE), "Edges: centre are masked at index (1,)"),
        (lambda m: Edges(ALONE, m), "Edges: neighbour are masked"),
        (lambda m: Environments(SphereSignal(np.zeros((3, 4, 1)), 2), m, NUMBERS), "Environments: molecule are masked"),
        (lambda m: Environments(SphereSignal(np.zeros((3, 4, 1)), 2), ALONE, m), "Environments: numbers are masked"),
        (lambda m: environments([H2O] * 3)[m], "Environments: the indices are masked at index (1,)"),
        (lambda m: SphereSignal(np.zeros((3, 4, 1)), 2)[m], "SphereSignal: the indices are masked at index (1,)"),
        (lambda m: rotate(SphereSignal(np.zeros((3, 4, 1)), 2), np.ma.array(np.eye(3), mask=np.eye(3) > 0)),
         "rotate: the rotations are masked at index (0, 0)"),
        (lambda m: MoleculeData([H2O] * 3, m * 1.0, "E", "eV", np.arange(3)), "MoleculeData: the targets are masked"),
    ],
)  # fmt: skip
def test_masked_integers(call, message):
    masked = np.ma.array([1, 0, 2], mask=[False, True, False])
    with pytest.raises(ValueError, match=re.escape(message)):
        call(masked)


def test_atoms_whose_arrays_were_replaced():
    """ase itself converts what it is given; what is put into its dictionary it does not see."""
    swapped, masked = H2O.copy(), H2O.copy()
    swapped.arrays["positions"] = H2O.positions.astype(">f8")
    swapped.arrays["numbers"] = NUMBERS.astype(">i8")
    for cutoff in (None, 3.0):
        expected = environments(H2O, cutoff=cutoff).signal.coefficients
        assert_same_bits(environments(swapped, cutoff=cutoff).signal.coefficients, expected)
    given = Atoms(NUMBERS.astype(">i8"), H2O.positions.astype(">f8"))
    assert_same_bits(environments(given).signal.coefficients, environments(H2O).signal.coefficients)
    masked.arrays["positions"] = np.ma.array(H2O.positions, mask=np.eye(3) > 0)
    with pytest.raises(ValueError, match=r"environments: the positions of molecule 1 are masked at index \(0, 0\)"):
        environments([H2O, masked])
    assert environments(H2O, dtype=">f4").signal.dtype == np.float32


def test_molecule_data():
    data = MoleculeData([H2O] * 2, np.array([1, 2.5], ">f4"), "E", "eV", np.array([4, 7], ">i4"))
    assert_same_bits(data.targets, np.array([1, 2.5]))
    assert data.index.dtype.isnative
    assert data.index.tolist() == [4, 7]


def test_image_data():
    images, labels = RNG.random((2, 3, 3, 1), dtype=np.float32), np.array([1, 0])
    expected = ImageData(images, labels, ("a", "b"))
    for x, y in zip(readable(images).values(), readable(labels).values(), strict=True):
        if isinstance(x, np.ndarray):
            data = ImageData(x, y, ("a", "b"))
            assert_same_bits(data.images, expected.images)
            assert_same_bits(data.labels, labels)
            assert not isinstance(data.images, np.ma.MaskedArray)
    for change, name in [({"images": np.ma.array(images, mask=images > 0)}, "images"),
                         ({"labels": np.ma.array(labels, mask=True)}, "labels")]:  # fmt: skip
        with pytest.raises(ValueError, match=f"ImageData: the {name} are masked at index"):
            ImageData(**({"images": images, "labels": labels, "classes": ("a", "b")} | change))
    with pytest.raises(TypeError, match=r"got float16 .*Pass images\.astype\(np\.float32\)"):
        ImageData(images.astype(np.float16), labels, ("a", "b"))
    ImageData(images.astype(np.float16).astype(np.float32), labels, ("a", "b"))


def test_gram_and_estimators():
    signals = SphereSignal.from_samples(SAMPLES.astype(">f8"), "dh", 3)
    assert_same_bits(signals.coefficients, SphereSignal.from_samples(SAMPLES, "dh", 3).coefficients)
    y = np.array([0.5, -1.0, 2.0])
    expected = gram(CNN, IMAGES, progress=False)
    model = KernelRegressor(net=CNN, ridge=1e-3).fit(IMAGES, y).predict(IMAGES)
    classes = KernelClassifier(net=CNN, ridge=1e-3).fit(IMAGES, [0, 1, 1]).decision_function(IMAGES)
    for name, stored in readable(IMAGES).items():
        if name != "JAX":
            assert_same_bits(gram(CNN, stored, progress=False), expected)
            assert_same_bits(KernelRegressor(net=CNN, ridge=1e-3).fit(stored, y).predict(stored), model)
            classifier = KernelClassifier(net=CNN, ridge=1e-3).fit(stored, [0, 1, 1])
            assert_same_bits(classifier.decision_function(stored), classes)
    for fit in (KernelRegressor(net=CNN).fit, KernelClassifier(net=CNN).fit):
        with pytest.raises(ValueError, match=r"Kernel.*: the inputs X are masked at index"):
            fit(np.ma.array(IMAGES, mask=IMAGES > 1.5), [0, 1, 1])
    assert gram(CNN, IMAGES.astype(np.float16), progress=False).dtype == np.float32


@pytest.mark.parametrize(
    ("given", "expected"),
    [(">f8", "f8"), (">f4", "f4"), (">f2", "f4"), ("f2", "f4"), (np.longdouble, "f8"), (">c16", "c16"), (">c8", "c8"),
     (np.clongdouble, "c16"), (">i2", "i2"), (">u8", "u8"), ("?", "?"), (jnp.bfloat16, "f4"), (jnp.float8_e4m3fn, "f4")],
)  # fmt: skip
def test_dtypes(given, expected):
    read = arrays.as_numbers(np.array([[1, 0]], given), "x")
    assert read.dtype == np.dtype(expected)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, np.array([[1, 0]], expected))


def test_large_integers_with_x64_off():
    """They become floats before JAX cuts them to 32 bits."""
    large = np.array([[2**40, -(2**33)]])
    with jax.enable_x64(False) if hasattr(jax, "enable_x64") else jax.experimental.disable_x64():
        np.testing.assert_array_equal(arrays.as_floats(large, "x"), large.astype(np.float32))


def test_fills_by_healpys_tolerance():
    for fill in (-1.6375e30, np.float64(np.float32(-1.6375e30)), -1.63751e30):
        with pytest.raises(
            ValueError, match=r"x hold -1\.637\d*e\+30 at index \(1,\): HEALPix's UNSEEN.*\(2 entries\)"
        ):
            arrays.refuse_fills(np.array([0, fill, fill]), "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arrays.refuse_fills(np.array([1.6375e30, -1.638e30, 1e300, 0]), "x")
        arrays.refuse_fills(np.array([1, 2]), "x")
