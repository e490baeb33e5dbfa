"""Every public name, used as a stranger would: ``.ci/run`` type-checks this file against an installed wheel.

Nothing here is run; tests/test_public_names.py holds that no name is missing.
"""

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms

import planar
import so3ntk
from planar import datasets
from so3ntk import empirical, hyperparameters, interop, molecules, predict, saving, solvers, spectra, testing, training

Matrix = np.ndarray


def networks() -> so3ntk.Network:
    """Layers, activations, quadratures."""
    residual = so3ntk.FanOut(2), so3ntk.parallel(so3ntk.Identity(), so3ntk.serial(so3ntk.Relu())), so3ntk.FanInSum()
    smooth: list[so3ntk.Activation] = [
        so3ntk.Erf(b=2),
        so3ntk.Gelu(),
        so3ntk.Sin(c=0.5),
        so3ntk.Cos(),
        so3ntk.SigmoidLike(),
        so3ntk.Exp(b=0.5),
        so3ntk.Rbf(0.5),
        so3ntk.Polynomial([0.5, 1.0]),
        so3ntk.Hermite(3),
    ]
    kinked: list[so3ntk.Layer] = [so3ntk.Abs(), so3ntk.LeakyRelu(0.1), so3ntk.Sign(), so3ntk.Monomial(3)]
    kinked.append(so3ntk.LayerNorm(1e-6))
    custom = so3ntk.Elementwise(jnp.tanh, nodes=40)
    rotations = so3ntk.ExplicitGrid(so3ntk.random_rotations(24, seed=0))
    grids: list[so3ntk.RotationGrid] = [so3ntk.ProductGrid(8), rotations]
    local = so3ntk.LocalGrid(so3ntk.ProductGrid(8), so3ntk.SphereGrid(8))
    adaptive = so3ntk.AdaptiveGrid(grids[0], so3ntk.ProductGrid(16), 0.9)
    so3ntk.serial(so3ntk.Lift(width=6), so3ntk.Products([1, 1, 0.5, None, jnp.asarray(0.1)]), so3ntk.GroupPool())
    so3ntk.serial(so3ntk.Lift(), so3ntk.Products(np.array([0.0, 0.0, 1.0])), so3ntk.GroupPool())
    so3ntk.serial(so3ntk.Lift(support=0.5), *kinked, so3ntk.IrrepPool(1), quadrature=local)
    so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(8, W_std=1.5), custom, so3ntk.Dense(1, b_std=0.1), quadrature=adaptive)
    layers = so3ntk.Lift(b_std=0.1), *smooth, *residual, so3ntk.GroupConv(), so3ntk.GroupPool()
    return assert_type(so3ntk.serial(*layers, rtol=1e-3), so3ntk.Network)


def kernels(net: so3ntk.Network) -> None:
    """Signals, kernels, matrices, their errors."""
    x = so3ntk.SphereSignal.from_samples(np.zeros((2, 6, 5, 1)), sampling="dh", bandlimit=3)
    x = so3ntk.concatenate([x, so3ntk.rotate(x, so3ntk.random_rotations(1))])
    assert_type(net.kernel_fn(x), so3ntk.Kernels)
    assert_type(net.kernel_fn(x, x, "ntk"), jax.Array)
    assert_type(net.kernel_fn(x, get="nngp"), jax.Array)
    assert_type(net.calibrate(x), so3ntk.Network)
    assert_type(net.quadrature_error(x), float)
    assert_type(so3ntk.gram(net, x), Matrix)
    assert_type(so3ntk.gram(net, x, get=("nngp", "ntk")), so3ntk.Kernels)
    stored: so3ntk.StoredGram = assert_type(so3ntk.gram(net, x, store="run.zarr"), so3ntk.StoredGram)
    assert_type(so3ntk.open_gram("run.zarr", get="ntk"), so3ntk.StoredGram)
    diagonal: Matrix = so3ntk.kernel_diagonal(net, x)
    planned: so3ntk.Estimate = so3ntk.estimate(net, x)
    seconds: float = planned.seconds
    fields: Any = so3ntk.serial(so3ntk.Lift()).kernel_fn(x)
    assert isinstance(fields, so3ntk.Fields)
    try:
        solution: solvers.Solution = so3ntk.solve(stored, diagonal, ridge=seconds)
    except (so3ntk.NotPositiveDefiniteError, so3ntk.PrecisionError, so3ntk.StoreMismatchError, so3ntk.DamagedTileError):
        raise
    for method in (solvers.Cholesky(), solvers.Eigen(), solvers.BlockedCholesky(), solvers.ConjugateGradients(rank=50),
                   solvers.Nystrom(rank=50), solvers.JaxMG()):  # fmt: skip
        chosen: solvers.Solver = method
        solution = solvers.solve(solvers.LazyGram(net, x), diagonal, 0.1, chosen)
    approximation: solvers.Approximation | None = solution.approximation
    low: solvers.LowRank = solvers.pivoted_cholesky(stored, 10, 2**30)
    testing.check_network(net, x, moved=lambda x: x)
    path: Matrix = solvers.loo_path(stored, diagonal, [0.1, 1.0])
    averaged = so3ntk.augmented(net.kernel_fn, so3ntk.random_rotations(3))
    print(approximation, low, path, averaged(x), so3ntk.augment_dataset(x, diagonal, so3ntk.random_rotations(3)))
    print(so3ntk.distill(net, x, diagonal, 3, learn_labels=True).predict(x))


def deep(net: so3ntk.Network, x: so3ntk.SphereSignal, y: Matrix) -> None:
    """Depth, irreps, hyperparameters."""
    found: spectra.Trainability = spectra.trainability(so3ntk.Erf(), 1.2, 0.2, depths=[1, 10, 100])
    scale: float = found.depth_c
    diagram: spectra.PhaseDiagram = spectra.phase_diagram(so3ntk.Relu(), [1.0, 1.5], [0.0, 0.1])
    irreps: spectra.IrrepSpectrum = spectra.irrep_spectrum(net, x, kernel="nngp", degrees=3)
    target: spectra.TargetParts = irreps.target(y)
    left: Matrix = target.residual([1.0, 10.0], so3ntk.random_rotations(1))
    slopes: spectra.Sensitivity = spectra.sensitivity(net, x, y, ridge=0.1)
    print(scale, diagram.plot("phases.png"), irreps.kept_by("mlp"), left, slopes.by_likelihood().names)


def maps(values: Matrix, lat: Matrix, lon: Matrix) -> so3ntk.SphereSignal:
    """Maps and pictures, healpy's and pyshtools' coefficients."""
    x = so3ntk.SphereSignal.from_map(values, lat=lat, lon=lon, bandlimit=8, mask=np.isnan(values))
    x = assert_type(so3ntk.SphereSignal.from_map(values, bandlimit=8, nest=True), so3ntk.SphereSignal)
    fit: so3ntk.MapFit = so3ntk.fit_map(values, lat=lat, lon=lon, bandlimit=8, weights=np.ones(3), ridge=1e-3)
    largest, condition = float(fit.residual.max()), float(fit.condition)
    back: Matrix = fit.signal.to_map(lat, lon)
    x = so3ntk.SphereSignal.from_healpy_alm(x.to_healpy_alm(), bandlimit=4)
    x = so3ntk.SphereSignal.from_pyshtools(x.to_pyshtools(normalization="ortho"), normalization="ortho")
    axes: Any = so3ntk.plots.map(x, title="a map", path="map.png")
    print(back, largest, condition, axes)
    return assert_type(
        so3ntk.SphereSignal.from_images(values, bandlimit=8, projection="equirectangular"), so3ntk.SphereSignal
    )


def estimators(net: so3ntk.Network, X: Matrix, y: Matrix) -> None:
    """Regression, classification, hyperparameters, files."""
    model = so3ntk.KernelRegressor(net, ridge=0.1).fit(X, y)
    assert_type(model.predict(X), Matrix)
    mean, std = model.predict(X, return_std=True)
    assert_type(std, Matrix)
    labels = so3ntk.KernelClassifier(net).fit(X, y > mean).predict(X)
    sparse = so3ntk.InducingRegressor(net, inducing=100, selection="cholesky").fit(X, y)
    assert_type(sparse.predict(X), Matrix)
    labels = so3ntk.InducingClassifier(net).fit(X, labels).predict(X)
    tensors = so3ntk.TensorKernelRegressor(net).fit(X, y)
    assert_type(tensors.predict(X), Matrix)
    grams: dict[int, Matrix] = so3ntk.irrep_grams(net, (0, 2), X)
    fit: hyperparameters.Fit = so3ntk.fit_hyperparameters(net, X, y, ridge=0.1)
    so3ntk.save(model, "model.npz")
    loaded = so3ntk.load("model.npz", check=True)
    saving.save(loaded, "model.npz", about={"unit": "eV"})
    unit: str = saving.describe("model.npz").models["model"].about["unit"]
    saving.register(so3ntk.Network, "mine")
    print(labels, grams, fit.ridge, saving.load("model.npz"), interop, unit)
    raise so3ntk.RidgePathWarning(so3ntk.QuadratureWarning(so3ntk.__version__))


def learning(k: Matrix, y: Matrix, model: so3ntk.KernelRegressor) -> None:
    """What a Gram matrix says of its targets, and learning curves."""
    found: spectra.GramSpectrum = spectra.spectrum(k, y)
    decay: spectra.Exponent = spectra.feature_spectrum(k, y).decay
    curve: spectra.LearningCurve = found.learning_curve([100, 1000], ridge=0.1)
    plain: spectra.ErrorCurve = model.learning_curve([100, 1000]).plain
    measured: list[spectra.Measured] = spectra.measured_errors(k, y, [100], curve.ridges[:1], test=20)
    assert_type(curve.rmse, Matrix)
    found.plot("spectrum.png", curve, [(m.size, m.rmse) for m in measured])
    print(decay.value, plain.rmse, curve.statement, found.learning_times(), found.effective_dimension(0.1))


def dynamics(net: so3ntk.Network, k: Matrix, y: Matrix, x: Matrix) -> None:
    """Gradient flow, ensembles, finite networks."""
    outputs: Matrix = predict.gradient_flow(k, y, k, t=10.0)
    spread: predict.Gaussian = predict.ensemble(so3ntk.Kernels(k, k), y, so3ntk.Kernels(k, k), k)
    spread = predict.gp_posterior(k, y, k, k)
    modes: predict.ModeLosses = predict.loss_per_mode(k, y, [1.0, 2.0])
    losses: Matrix = predict.loss_curve(k, y, [1.0, 2.0])
    rate: float = predict.max_learning_rate(k)
    init_fn, apply_fn, _ = net
    _, params = init_fn(jax.random.key(0), x.shape)
    sampled: empirical.Average = empirical.monte_carlo(net, x, draws=8)
    trained: training.Trained = training.train(net, x, y, learning_rate=rate, steps=3)
    print(outputs, spread.mean, modes.losses, losses, sampled.mean, trained.params)
    print(empirical.nngp(apply_fn)(params, x), empirical.ntk(apply_fn)(params, x))


def atoms(frames: list[Atoms]) -> None:
    """Molecules, energies, forces."""
    data: molecules.MoleculeData = molecules.load_qm9(100)
    data = molecules.read_molecules("frames.xyz")
    x: molecules.Environments = molecules.environments(data.atoms, cutoff=5.0)
    for radial in (molecules.Powers((1, 2), length=1.6), molecules.Shells(8, width=0.05)):
        x = molecules.environments(data.atoms, radial=radial)
    net = so3ntk.serial(so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupPool(), molecules.AtomSum(match_species=True))
    residual = data.targets - molecules.CompositionBaseline().fit(data.atoms, data.targets).predict(data.atoms)
    so3ntk.KernelRegressor(net).fit(x, residual)
    so3ntk.InducingRegressor(net).fit(molecules.LazyEnvironments(data.atoms, radial=molecules.Shells()), data.targets)
    coefficients: jax.Array = molecules.environment_coefficients(frames[0].positions, frames[0].numbers, [0])
    forces: molecules.ForceData = molecules.read_forces("frames.xyz")
    labelled: molecules.Frames = molecules.read_frames(["frames.xyz"], stress_key=False, unit="kcal/mol")
    labelled[:3].counts()
    molecules.check_forces(forces.atoms, forces.energies, forces.forces)
    potential = molecules.EnergyForceRegressor(molecules.force_network()).fit(
        forces.atoms, forces.energies, forces.forces
    )
    energies: Matrix = potential.predict(frames).energies
    frames[0].calc = molecules.Calculator(potential, with_std=True)
    print(coefficients, energies)


def images() -> None:
    """planar."""
    train, test = datasets.stratified_split(datasets.load_digits(), 100, 200, seed=0)
    both: datasets.ImageData = datasets.shrink(datasets.quarter_turns(test, seed=0), 8)
    for data in (
        datasets.load_images("folder"),
        datasets.load_folder("folder"),
        datasets.load_idx("a", "b"),
        datasets.load_npz("c"),
        datasets.load_parts("d")[0],
    ):
        both = data
    layers = (
        planar.Lift((3, 3), padding="SAME", group="C4"),
        so3ntk.Relu(),
        planar.GroupConv((3, 3)),
        planar.AvgPool((2, 2)),
        planar.Subsample(3, offset=1),
    )
    net = so3ntk.serial(*layers, planar.GroupPool(), planar.GroupPool())
    flat = so3ntk.serial(planar.Flatten(), so3ntk.Dense())
    turns: planar.ImageMotions = planar.motions("C4")
    turns = planar.ImageMotions([planar.ImageMotion(turns=1)])
    score = so3ntk.KernelClassifier(net).fit(train.images, train.labels).score(both.images, both.labels)
    print(flat, turns, score, planar.GROUPS["C4"])
