"""Saved models: the same after loading; and files that are refused. In another process: test_saving_vectors_forces."""

import errno
import json
import math
import os
import pickle
import re
import tempfile
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import planar
import so3ntk
from so3ntk import (
    Dense,
    Elementwise,
    Flatten,
    GroupPool,
    KernelClassifier,
    KernelRegressor,
    Lift,
    Relu,
    load,
    save,
    serial,
)
from so3ntk.engine.layers.base import Layer
from so3ntk.errors import ModelFileError, PrecisionError
from so3ntk.learning.solvers import Nystrom
from so3ntk.molecules import AtomSum, CompositionBaseline
from so3ntk.saving import archive, register
from so3ntk.saving.registry import _subclasses, entry_named, entry_of, fields_of
from tests.regression_cases import INVARIANT, MLP, MOLECULAR, molecules, problem, signals
from tests.saved_files import rewritten, set_at


def branch(scale):
    return serial(Dense(W_std=scale), so3ntk.LeakyRelu(0.1))


NETWORKS = [
    INVARIANT,
    MOLECULAR,
    serial(Lift(bandlimit=3, variances=jnp.array([1.0, 0.5, 0.25]), channel_weights=np.array([0.3, 2.0]), group="O3",
                W_std=np.float32(1.1), b_std=jnp.asarray(0.2)), so3ntk.Erf(0.9, 1.1, 0.2), GroupPool(), AtomSum(),
           Dense(3, parametrization="standard", W_std=2.0), rtol=1e-3),
    serial(Lift(support=0.8, width=5), Relu(), so3ntk.GroupConv(support=1.5), so3ntk.Gelu(), GroupPool(),
           quadrature=so3ntk.LocalGrid(so3ntk.ProductGrid(8), so3ntk.SphereGrid(6))),
    serial(Flatten(), Dense(), so3ntk.FanOut(2), so3ntk.parallel(branch(1.0), so3ntk.Identity()), so3ntk.FanInSum(),
           Dense(), so3ntk.Monomial(2), Dense(), so3ntk.SigmoidLike(), Dense()),
    serial(Lift(), Elementwise(jnp.tanh, nodes=40, derivative=jnp.cos), GroupPool(),
           quadrature=so3ntk.ExplicitGrid(so3ntk.random_rotations(5, seed=0), [0.1, 0.2, 0.3, 0.3, 0.1])),
    serial(planar.Lift((3, 3), "SAME", "D4", b_std=0.5), Relu(), planar.AvgPool((2, 2)),
           planar.GroupConv((2, 2), "VALID", W_std=1.3), so3ntk.Sin(b=2.0), GroupPool(), Dense()),
    serial(planar.Lift(None), so3ntk.Abs(), planar.GroupConv(None), GroupPool()),
    serial(planar.Flatten(), Dense(), so3ntk.Sign(), Dense()),
    serial(Lift(width=6), so3ntk.Products([0, 0.5, jnp.asarray(0.25), np.float32(2.0), 0]), so3ntk.GroupConv(),
           so3ntk.Products([1.0, None, 1 / 3]), GroupPool()),
]  # fmt: skip


def equal(a, b):
    """Two networks, or any pytrees, with the same structure, types and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y)
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("net", NETWORKS, ids=range(len(NETWORKS)))
def test_networks(net, tmp_path):
    save(net, tmp_path / "net")
    again = load(tmp_path / "net")
    if isinstance(net.quadrature, so3ntk.ExplicitGrid):  # through rotation matrices
        np.testing.assert_allclose(again.quadrature.representatives, net.quadrature.representatives, atol=1e-14)
        again = serial(*again.layers, quadrature=net.quadrature, rtol=net.rtol)
    equal(net, again)


def test_every_layer_is_known():
    """The constructor of a layer takes its fields, or it says in ``saving`` what it takes."""
    layers = {cls for cls in _subclasses(Layer) if cls.__module__.startswith(("so3ntk.", "planar."))}
    concrete = {cls for cls in layers if not getattr(cls, "__abstractmethods__", None)}
    assert {Lift, planar.Lift, Relu, Elementwise, AtomSum} <= concrete
    import inspect

    for cls in concrete:
        entry = entry_of(cls)
        assert entry_named(entry.name).cls is cls
        if entry.arguments is fields_of and entry.build is cls:
            names = {f.name for f in cls.__dataclass_fields__.values() if f.init}
            assert names <= set(inspect.signature(cls.__init__).parameters), cls


def fitted():
    x, y = signals(8)
    m, t = molecules()
    kernel, targets, *_ = problem(outputs=2)
    images = np.random.default_rng(0).normal(size=(6, 4, 4, 2)).astype(np.float32)
    net = serial(planar.Lift((3, 3)), Relu(), GroupPool(), Dense())
    labels = np.array(["cat", "dog", "emu"] * 2)
    data = planar.datasets.image_data.ImageData(np.abs(images) / 9, np.arange(6) % 3, ("a", "b", "c"))
    yield KernelRegressor(INVARIANT, ridge=0.1).fit(x, y), x
    yield KernelRegressor(MOLECULAR, ridge=0.1, t=math.inf).fit(m, t), m
    yield KernelRegressor(MLP, ridge=0.1, solver=Nystrom(rank=5)).fit(x, y), x
    yield KernelRegressor(ridge=0.1).fit(np.arange(12.0).reshape(6, 2), np.arange(6.0)), np.ones((2, 2))
    yield KernelRegressor("precomputed", ridge=0.1).fit(kernel, targets), kernel
    yield KernelClassifier(net, ridge=0.1).fit(images, labels), images
    yield KernelClassifier(net, ridge=0.1).fit(data, labels.astype(object)), data


@pytest.mark.slow
def test_estimators_predict_the_same(tmp_path):
    for number, (model, x) in enumerate(fitted()):
        path = tmp_path / str(number)
        save(model, path)
        again = load(path, check=True)
        assert type(again) is type(model)
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        if isinstance(model, KernelRegressor) and hasattr(model, "spectrum_"):
            diagonal = np.full(len(x), 10.0) if model.net == "precomputed" else None
            for a, b in zip(again.predict(x, True, diagonal), model.predict(x, True, diagonal), strict=True):
                np.testing.assert_array_equal(a, b)
        assert repr(again.get_params()["ridge"]) == repr(model.ridge)
        with zipfile.ZipFile(path) as file:  # readable, plain arrays
            document = json.loads(file.read("model.json"))
            assert document["versions"]["jax"] == jax.__version__
        with np.load(path, allow_pickle=False) as arrays:
            assert arrays["model.dual_coef_"].shape == model.dual_coef_.shape


def small(tmp_path, **options):
    x, y = signals(6)
    model = KernelRegressor(MLP, ridge=0.1).fit(x, y)
    save(model, tmp_path / "model", **options)
    return model, x, tmp_path / "model"


def test_several_models_and_without_the_spectrum(tmp_path):
    atoms = pytest.importorskip("ase.build").molecule("CH4")
    baseline = CompositionBaseline().fit([atoms], np.array([-40.5]))
    model, x, path = small(tmp_path, spectrum=False)
    with pytest.raises(ValueError, match="left out of the saved file"):
        load(path).predict(x, return_std=True)
    save({"kernel": model, "baseline": baseline}, path)
    found = load(path, check=True)
    np.testing.assert_array_equal(found["kernel"].predict(x), model.predict(x))
    assert found["baseline"].predict([atoms]) == baseline.predict([atoms])


def own_activation(u):
    return jnp.sin(u) ** 2


class Doubling(Layer):
    factor: float

    def __call__(self, state):
        return state


def test_functions_and_layers_of_ones_own(tmp_path):
    net = serial(Flatten(), Dense(), Elementwise(own_activation), Doubling(2.0))
    with pytest.raises(
        TypeError, match=r"model\.layers\.3 is a .*Doubling, which is not saved.*register\(cls\)|the function"
    ):
        save(net, tmp_path / "net")
    assert not (tmp_path / "net").exists()
    register(Doubling)
    with pytest.raises(
        TypeError, match=r"function model\.layers\.2\.fn = .*own_activation.*register\(function, name\)"
    ):
        save(net, tmp_path / "net")
    register(own_activation)
    with pytest.raises(ValueError, match="taken"):
        register(jnp.tanh, "own_activation")
    save(net, tmp_path / "net")
    again = load(tmp_path / "net")
    equal(net, again)
    assert again.layers[2].fn is own_activation
    with pytest.raises(TypeError, match="expected a Network, a KernelRegressor"):
        save(net.layers, tmp_path / "x")
    with pytest.raises(NotFittedError):
        save(KernelRegressor(), tmp_path / "x")
    with pytest.raises(TypeError, match=r"model.learning_rate is a builtins.object"):
        save(small(tmp_path)[0].set_params(learning_rate=object()), tmp_path / "x")


# ------------------------------------------------------------------------------- files that are refused


LAYERS = ("models", "model", "parameters", "net", "arguments", "layers", "tuple")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("format", value="x"), "not a saved model"),
        (set_at("format_version", value=99), "format version 99"),
        (set_at("models", value=[]), "not a saved model"),
        (set_at("models", "model", "estimator", value="Popen"), "'Popen' or one of its attributes is not known"),
        (set_at("models", "model", "fitted", "__class__", value=1), "is not known"),
        (set_at("models", "model", "parameters", "own", value=1), "is not known"),
        (set_at(*LAYERS, 2, value={"class": "os.system", "arguments": {}}), "class 'os.system' is not known"),
        (set_at(*LAYERS, 2, value={"class": "so3ntk.Network", "arguments": {}}), "cannot be made"),
        (set_at(*LAYERS, 2, value={"function": "os.system"}), "function 'os.system' is not known"),
        (set_at(*LAYERS, 2, value={"function": "jax.numpy.__builtins__"}), "is not known"),
        (set_at(*LAYERS, 1, "arguments", "width", value=-3), "width to be a positive integer"),
        (set_at(*LAYERS, 1, "arguments", "W_std", value={"array": "no", "kind": "numpy"}), "expected a value"),
        (set_at(*LAYERS, 1, value={"list": [[1]]}), "expected a value|cannot be made"),
        (lambda document, arrays: arrays["model.dual_coef_"].__setitem__(0, np.nan), "not finite"),
        (lambda document, arrays: arrays.update({"model.dual_coef_": np.ones(3)}), "not as many"),
        (lambda document, arrays: document.pop("models"), "not a saved model"),
        (lambda document, arrays: document["models"]["model"].pop("fitted"), "fitted"),
    ],
)
def test_hostile_documents(change, message, tmp_path):
    path = rewritten(small(tmp_path)[2], change)
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_damaged_files(tmp_path):
    _, _, path = small(tmp_path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match="not a saved model, or is damaged"):
            load(path)
    place = whole.index(np.ascontiguousarray(load_arrays(whole, tmp_path)["model.dual_coef_"]).tobytes())
    path.write_bytes(whole[: place + 3] + bytes([whole[place + 3] ^ 1]) + whole[place + 4 :])
    with pytest.raises(ModelFileError, match="CRC"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    path.write_bytes(pickle.dumps(3))
    with pytest.raises(ModelFileError):
        load(path)


def load_arrays(whole, tmp_path):
    (tmp_path / "copy").write_bytes(whole)
    return archive.read(tmp_path / "copy")[1]


class Bomb:
    exploded = False

    def __reduce__(self):
        return (setattr, (Bomb, "exploded", True))


def test_pickles_bombs_and_lies(tmp_path):
    _, _, path = small(tmp_path)
    document, arrays = archive.read(path)
    name = "model.dual_coef_"
    for harmful, message in [
        (np.array([Bomb()], dtype=object), "objects"),
        (
            b"\x93NUMPY\x01\x00" + header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**50},), }}"),
            "as long as",
        ),
        (b"PK", "magic"),
    ]:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("model.json", json.dumps(document))
            for key, array in arrays.items():
                with file.open(f"{key}.npy", "w") as member:
                    if key == name and isinstance(harmful, bytes):
                        member.write(harmful)
                    else:
                        np.lib.format.write_array(member, harmful if key == name else array)
        with pytest.raises(ModelFileError, match=message):
            load(path)
    assert not Bomb.exploded
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.json", json.dumps(document))
        file.writestr("zeros.npy", bytes(10**6))
    with pytest.raises(ModelFileError, match="compressed"):
        load(path)


def header(text):
    text = text.encode().ljust(117) + b"\n"
    return len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("change", [set_at(*LAYERS, 1, "arguments", "b_std", value=0.5001),
                                    lambda document, arrays: arrays["model.dual_coef_"].__imul__(1 + 1e-6)])  # fmt: skip
def test_a_model_that_predicts_something_else(change, tmp_path):
    path = rewritten(small(tmp_path)[2], change)
    load(path)
    with pytest.raises(PrecisionError, match=r"predictions .* differ by .*, more than rounding"):
        load(path, check=True)


def test_places_where_nothing_can_be_written(tmp_path, monkeypatch):
    """They are named, before predictions are computed; what the messages say to do works."""
    model, _, _ = small(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(KernelRegressor, "predict", None)
        for place, error, message in (
            (
                tmp_path / "none" / "model",
                FileNotFoundError,
                r"save: there is no folder .*none for the file model\. Make it",
            ),
            (tmp_path, IsADirectoryError, r"save: .* is a folder\. Name a file in it, such as .*model\.npz"),
            ("s3://bucket/model", ValueError, "save: 's3://bucket/model' is an address, not a path on this machine"),
            (tmp_path / "model" / "below", FileNotFoundError, "save: there is no folder"),
        ):
            with pytest.raises(error, match=message):
                save(model, place)
    (tmp_path / "none").mkdir()
    save(model, tmp_path / "none" / "model")
    save(model, tmp_path / "model.npz")

    def refuse(dir):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        PermissionError, match=r"save: cannot write in the folder .* \(Permission denied\)\. Name another"
    ):
        save(model, tmp_path / "model")


def test_arguments_of_save_and_load(tmp_path):
    model, _, path = small(tmp_path)
    with pytest.raises(TypeError, match="save: expected spectrum to be True or False, got 'no'"):
        save(model, path, spectrum="no")
    with pytest.raises(TypeError, match="load: expected check to be True or False, got 1"):
        load(path, check=1)
    for models in ({}, {1: model}):
        with pytest.raises(TypeError, match="save: expected a dict of models under text as names"):
            save(models, path)


def test_nothing_is_left_where_writing_fails(tmp_path, monkeypatch):
    model, _, path = small(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(np.lib.format, "write_array", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert re.match("PK", before[:2].decode())
