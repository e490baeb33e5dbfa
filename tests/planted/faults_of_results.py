"""Faults in what is made of kernels: finite networks, matrices, regressions, training dynamics, molecules, files."""

from fault import Fault

FINITE = (
    Fault(
        "finite-filter-variance",  # of convolutions with a spectrum
        "so3ntk/sphere/features.py",
        "* jnp.sqrt(v / (2 * degree + 1))",
        "* v / jnp.sqrt(2 * degree + 1)",
        ("tests/finite/test_equivariance.py::test_the_spectrum_is_a_variance", "tests/finite"),
    ),
    Fault(
        "empirical-sum-over-channels",  # right for one output
        "so3ntk/finite/empirical.py",
        "total = jnp.sum(jax.lax.map(channel, jnp.arange(channels)), axis=0) / channels",
        "total = jnp.sum(jax.lax.map(channel, jnp.arange(channels)), axis=0)",
        ("tests/finite/test_empirical.py",),
    ),
    Fault(
        "standard-error-of-many-draws",  # right for one block of draws
        "so3ntk/finite/empirical.py",
        "step**2 * (before * new / self.count)",
        "step**2 * new",
        ("tests/finite/test_empirical.py::test_average", "tests/finite/test_empirical.py"),
    ),
    Fault(
        "batches-not-shuffled-anew",  # every epoch has the batches of the first
        "so3ntk/finite/training/descent.py",
        "jax.random.permutation(jax.random.fold_in(key, index // per_epoch), n)",
        "jax.random.permutation(key, n)",
        (
            "tests/finite/test_training.py::test_batches_are_without_replacement_and_seeded",
            "tests/finite/test_training.py",
        ),
    ),
)

MATRICES = (
    Fault(
        "last-dispatch-skipped",  # of a tile with more cells than one dispatch, if it is not full
        "so3ntk/engine/evaluation/tiles.py",
        "for start in [*range(0, len(cells), tiling.cells), None]:",
        "for start in [*range(0, max(1, len(cells) - tiling.cells + 1), tiling.cells), None]:",
        (
            "tests/matrices/test_gram.py::test_several_cells_of_a_dispatch",
            "tests/matrices/test_gram.py",
            "tests/learning/solvers/test_solve.py",
            "tests/matrices/test_devices.py",
        ),
    ),
    Fault(
        "tile-not-mirrored",  # above the diagonal of a matrix with several tiles
        "so3ntk/engine/evaluation/tiles.py",
        "matrix[columns, rows] = mirrored(kernel)",
        "matrix[columns, rows] = kernel.reshape(mirrored(kernel).shape)",
        ("tests/matrices/test_gram.py::test_tiles", "tests/matrices/test_gram.py"),
    ),
    Fault(
        "option-tile-ignored",
        "so3ntk/matrices/gram.py",
        "tiling = make_tiling(plan, tile, memory, _workers(client))\n",
        "tiling = make_tiling(plan, None, memory, _workers(client))\n",
        ("tests/matrices/test_gram.py::test_progress", "tests/matrices/test_gram.py"),
    ),
    Fault(
        "checksum-not-compared",
        "so3ntk/matrices/store.py",
        "if checksum(kernel) != mark:",
        "if checksum(kernel) < 0:",
        ("tests/matrices/test_store.py::test_damaged_files", "tests/matrices/test_store.py"),
    ),
    Fault(
        "one-difference-is-none",  # a store of another configuration is resumed
        "so3ntk/matrices/store.py",
        "        if lines:\n            raise StoreMismatchError(",
        "        if len(lines) > 1:\n            raise StoreMismatchError(",
        ("tests/matrices/test_store.py::test_another_run", "tests/matrices/test_store.py"),
    ),
    Fault(
        "damaged-tile-kept",  # said, and not computed again
        "so3ntk/matrices/gram.py",
        "todo = [tile for tile in own if tile in missing or tile in damaged]",
        "todo = [tile for tile in own if tile in missing]",
        ("tests/matrices/test_store.py::test_damaged_files", "tests/matrices/test_store.py"),
    ),
    Fault(
        "worker-writes-the-mirror-tile",
        "so3ntk/matrices/cluster.py",
        "    store.write(i, j, kernels)\n",
        "    store.write(j, i, kernels)\n",
        ("tests/matrices/test_cluster.py::test_workers_write_the_store", "tests/matrices/test_cluster.py"),
    ),
    Fault(
        "stored-tile-not-mirrored",  # read above the diagonal: right for tiles of one size and symmetric blocks
        "so3ntk/matrices/stored.py",
        "return mirrored(self._store.read(self.name, j, i))",
        "return self._store.read(self.name, j, i).reshape(mirrored(self._store.read(self.name, j, i)).shape)",
        ("tests/matrices/test_store.py::test_read_lazily", "tests/matrices/test_store.py"),
    ),
)

REGRESSION = (
    Fault(
        "posterior-without-the-ridge",  # a small term of the variance, with an intercept
        "so3ntk/learning/ridge.py",
        "spectrum.shares @ spectrum.row_means + ridge / total",
        "spectrum.shares @ spectrum.row_means",
        (
            "tests/learning/test_ridge.py::test_std_with_an_intercept_is_the_limit_of_a_wide_prior_on_it",
            "tests/learning/test_ridge.py",
        ),
    ),
    Fault(
        "leave-one-out-without-the-intercept",  # of one solver, by 1 / n
        "so3ntk/learning/feature_ridge.py",
        'inside = np.einsum("ij,ij->i", self.basis, self.basis) + np.einsum("ij,ij->i", self.vectors, self.vectors)',
        'inside = np.einsum("ij,ij->i", self.vectors, self.vectors)',
        (
            "tests/learning/solvers/test_solve.py::test_leave_one_out_is_a_refit_without_the_row",
            "tests/learning/solvers",
        ),
    ),
    Fault(
        "prior-of-the-other-kernel",  # standard deviations with kernel="nngp"
        "so3ntk/learning/regressor.py",
        "diagonal = kernel_diagonal(network_of(estimator), X, estimator.kernel)",
        "diagonal = kernel_diagonal(network_of(estimator), X)",
        (
            "tests/learning/test_estimators.py::test_networks_are_their_precomputed_kernels",
            "tests/learning/test_estimators.py",
        ),
    ),
    Fault(
        "option-fit-intercept-ignored",
        "so3ntk/learning/regressor.py",
        "fit_columns(self, X, columns, gram, bool(self.fit_intercept), weights)",
        "fit_columns(self, X, columns, gram, True, weights)",
        ("tests/learning/test_ridge.py",),
    ),
    Fault(
        "labels-of-two-classes-swapped",
        "so3ntk/learning/classifier.py",
        "return outputs[:, 1] if outputs.shape[1] == 2 else outputs",
        "return outputs[:, 0] if outputs.shape[1] == 2 else outputs",
        (
            "tests/learning/test_classifier.py::test_it_is_regression_on_centred_one_hot_targets",
            "tests/learning/test_classifier.py",
        ),
    ),
    Fault(
        "rank-of-the-likelihood",  # one more than the degrees of freedom, with an intercept
        "so3ntk/learning/hyperparameters.py",
        "rank = n - 1 if intercept else n",
        "rank = n",
        ("tests/learning/test_hyperparameters.py::test_values", "tests/learning/test_hyperparameters.py"),
    ),
    Fault(
        "lower-triangle-once",  # products with a stored kernel
        "so3ntk/matrices/kernel_matrix.py",
        "if rows.start != columns.start:",
        "if rows.start > columns.stop:",
        (
            "tests/learning/solvers/test_solve.py::test_tiles_of_a_store_are_read_whole_and_once_for_both_triangles",
            "tests/learning/solvers",
        ),
    ),
    Fault(
        "converged-a-hundred-times-too-early",
        "so3ntk/learning/solvers/conjugate_gradients.py",
        "iteration = Iteration(problem, precondition, self.tolerance, self.max_steps)",
        "iteration = Iteration(problem, precondition, 100 * self.tolerance, self.max_steps)",
        ("tests/learning/solvers/test_solve.py", "tests/learning/solvers"),
    ),
)

DYNAMICS = (
    Fault(
        "time-without-the-outputs",  # right for one output
        "so3ntk/learning/predict/flow.py",
        "* t.ravel() / y.size",
        "* t.ravel() / len(y)",
        ("tests/learning/predict/test_gradient_flow.py", "tests/learning/predict"),
    ),
    Fault(
        "covariance-of-two-networks",  # one of the two mixed terms
        "so3ntk/learning/predict/ensembles.py",
        'change = blocks.train["nngp"] @ dual - 2 * blocks.test["nngp"].T',
        'change = blocks.train["nngp"] @ dual - blocks.test["nngp"].T',
        ("tests/learning/predict/test_ensembles.py",),
    ),
    Fault(
        "spread-at-half-the-time",  # of networks whose last layer alone is trained; right at the end
        "so3ntk/learning/predict/ensembles.py",
        "for dual in regularised.relaxed(cross, 2 * taus):",
        "for dual in regularised.relaxed(cross, taus):",
        ("tests/learning/predict/test_ensembles.py",),
    ),
    Fault(
        "option-diag-reg-ignored",  # in the losses, not in the predictions
        "so3ntk/learning/predict/training.py",
        "return loss_per_mode(k_train, y_train, t, learning_rate, diag_reg, f0_train=f0_train)",
        "return loss_per_mode(k_train, y_train, t, learning_rate, f0_train=f0_train)",
        ("tests/learning/predict/test_training.py",),
    ),
    Fault(
        "momentum-raises-the-rate-too-much",
        "so3ntk/learning/predict/training.py",
        "return 2 * (1 + momentum) * n * int(outputs) / largest if largest > 0 else math.inf",
        "return 2 / (1 - momentum) * n * int(outputs) / largest if largest > 0 else math.inf",
        ("tests/learning/predict/test_training.py",),
    ),
    Fault(
        "half-of-the-motions-once",  # of a batch with itself, where a motion stands for its inverse too
        "so3ntk/learning/augmentation.py",
        "else 2 * (index < inverse[index])",
        "else 1 * (index < inverse[index])",
        ("tests/learning/test_augmentation.py::test_a_batch_with_itself", "tests/learning/test_augmentation.py"),
    ),
    Fault(
        "augmentation-without-one-element",
        "so3ntk/learning/augmentation.py",
        "        return (self.move(x, index) for index in range(len(self)))",
        "        return (self.move(x, max(index, 1) if len(self) > 1 else 0) for index in range(len(self)))",
        ("tests/learning/test_augmentation.py", "tests/planar/test_augmentation.py"),
    ),
)

MOLECULES = (
    Fault(
        "option-match-species-ignored",
        "so3ntk/molecules/atom_sum.py",
        "kind = np.asarray(x.numbers) if self.match_species else np.zeros_like(molecule)",
        "kind = np.zeros_like(molecule)",
        ("tests/matrices/test_gram.py::test_sum_over_atoms", "tests/matrices/test_gram.py"),
    ),
    Fault(
        "smooth-only-once",  # a switch of the cutoff whose second derivative jumps
        "so3ntk/molecules/radial.py",
        "return 1 - u**3 * (10 - 15 * u + 6 * u**2)",
        "return 1 - u**2 * (3 - 2 * u)",
        (
            "tests/molecules/test_coefficients.py::test_second_derivative_is_continuous_at_the_switch",
            "tests/molecules/test_coefficients.py",
        ),
    ),
    Fault(
        "heat-for-twice-the-time",  # the angular smearing of shells
        "so3ntk/molecules/radial.py",
        "time = (self.smearing(distance) / distance) ** 2 / 2",
        "time = (self.smearing(distance) / distance) ** 2",
        ("tests/molecules/test_radial.py",),
    ),
    Fault(
        "squares-of-the-diagonal-not-mirrored",  # of a matrix on the host
        "so3ntk/engine/evaluation/sums.py",
        "for columns in parts[: i + 1]:",
        "for columns in parts[:i]:",
        ("tests/engine/test_sizes.py",),
    ),
    Fault(
        "power-of-the-length",
        "so3ntk/molecules/coefficients.py",
        "lengths = np.asarray([float(length) ** p for p in powers], dtype)",
        "lengths = np.asarray([float(length) for p in powers], dtype)",
        (
            "tests/molecules/test_coefficients.py::test_length_is_the_unit_of_distances",
            "tests/molecules/test_coefficients.py",
        ),
    ),
    Fault(
        "cell-transposed",  # right for cells with right angles
        "so3ntk/molecules/neighbours.py",
        "return i, j, shifts @ np.asarray(atoms.cell)",
        "return i, j, shifts @ np.asarray(atoms.cell).T",
        ("tests/molecules/test_environments.py",),
    ),
    Fault(
        "force-sign",  # of the covariances with energies
        "so3ntk/molecules/forces/kernels.py",
        "return pad(moving.signals(self.atoms)), -pad(slopes), slot",
        "return pad(moving.signals(self.atoms)), pad(slopes), slot",
        (
            "tests/molecules/test_forces.py::test_covariances_are_derivatives_in_the_positions",
            "tests/molecules/test_forces.py",
        ),
    ),
    Fault(
        "padded-atoms-counted",
        "so3ntk/molecules/forces/kernels.py",
        "slot = np.concatenate([self.slot, np.full(size - len(self.slot), -1)])",
        "slot = np.concatenate([self.slot, np.full(size - len(self.slot), self.slot[0])])",
        (
            "tests/molecules/test_forces.py::test_covariances_are_derivatives_in_the_positions",
            "tests/molecules/test_forces.py",
        ),
    ),
    Fault(
        "derivative-without-the-length",  # right for a length of one
        "so3ntk/molecules/forces/displacements.py",
        "common_factors(shells, powers, length,",
        "common_factors(shells, powers, 1.0,",
        (
            "tests/molecules/test_forces.py::test_tangents_are_the_derivatives_of_the_coefficients",
            "tests/molecules/test_forces.py",
        ),
    ),
    Fault(
        "forces-in-the-unit-of-the-model",
        "so3ntk/molecules/forces/calculator.py",
        '"forces": found.forces[0] * self.unit}',
        '"forces": found.forces[0]}',
        ("tests/molecules/test_calculator.py",),
    ),
    Fault(
        "anisotropy-factor",
        "so3ntk/molecules/datasets/polarizability.py",
        "return np.sqrt(1.5 * np.sum(traceless**2, axis=(1, 2)))",
        "return np.sqrt(np.sum(traceless**2, axis=(1, 2)))",
        ("tests/molecules/test_polarizability.py",),
    ),
    Fault(
        "baseline-has-seen-the-test-set",
        "so3ntk/molecules/energies.py",
        "baseline = CompositionBaseline().fit([atoms[int(i)] for i in rows], y[rows])",
        "baseline = CompositionBaseline().fit(atoms, y)",
        ("tests/molecules/test_energies.py", "tests/molecules/test_data.py"),
    ),
)

REST = (
    Fault(
        "tolerance-not-restored",  # a saved network's rtol
        "so3ntk/saving/known.py",
        "return serial(*layers, quadrature=quadrature, rtol=rtol)",
        "return serial(*layers, quadrature=quadrature)",
        ("tests/saving/test_saving.py::test_networks", "tests/saving/test_saving.py"),
    ),
    Fault(
        "padding-not-restored",
        "planar/saving.py",
        "((window.size, window.size), window.padding)",
        '((window.size, window.size), "SAME")',
        ("tests/saving/test_saving.py::test_networks", "tests/saving/test_saving.py"),
    ),
    Fault(
        "noise-not-restored",  # of a saved surface of energies and forces
        "so3ntk/saving/estimators.py",
        "        model.species_ = elements_of(model.atoms_)",
        "        model.energy_noise_ = model.force_noise_\n        model.species_ = elements_of(model.atoms_)",
        ("tests/saving/test_saving_vectors_forces.py::test_forces", "tests/saving/test_saving_vectors_forces.py"),
    ),
    Fault(
        "interop-variance-not-turned",  # of the second image; its tests need neural-tangents
        "planar/covariances.py",
        "first.own[here, here], second.own[there, there])",
        "first.own[here, here], second.own[here, here])",
        ("tests/interop/test_neural_tangents.py::test_layers_after_ours_are_ours[C4]", "tests/interop"),
    ),
    Fault(
        "interop-tangent-kernel-dropped",  # of layers before ours; its tests need neural-tangents
        "so3ntk/interop/neural_tangents.py",
        "ntk = jnp.zeros_like(k.nngp) if k.ntk is None or k.ntk.ndim == 0 else k.ntk",
        "ntk = jnp.zeros_like(k.nngp)",
        ("tests/interop/test_neural_tangents.py::test_images_are_means_of_their_cnn[C4-channels]", "tests/interop"),
    ),
    Fault(
        "option-padding-ignored",
        "so3ntk/cli/images.py",
        "layers = args.depth, args.filter, args.padding, make_activation(args.activation)",
        'layers = args.depth, args.filter, "CIRCULAR", make_activation(args.activation)',
        ("tests/cli/test_cli_images.py",),
    ),
    Fault(
        "option-kernel-ignored",
        "so3ntk/cli/images.py",
        "found = compare(networks, drawn, args.kernel, args.precision,",
        'found = compare(networks, drawn, "ntk", args.precision,',
        ("tests/cli/test_cli_images.py",),
    ),
    Fault(
        "option-kernel-of-molecules-ignored",
        "so3ntk/cli/molecules.py",
        'options = {"kernel": args.kernel, "inducing": args.inducing',
        'options = {"kernel": "ntk", "inducing": args.inducing',
        ("tests/cli/test_cli_molecules.py::test_the_kernel_is_the_one_asked_for", "tests/cli/test_cli_molecules.py"),
    ),
)

RESULTS: tuple[Fault, ...] = (*FINITE, *MATRICES, *REGRESSION, *DYNAMICS, *MOLECULES, *REST)
