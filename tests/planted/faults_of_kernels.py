"""Faults in kernels: activations, layers, rotations and their quadrature, tensors, filters on caps, images."""

from fault import Fault

ACTIVATIONS = (
    Fault(
        "erf-slope",  # right for a scale b of one
        "so3ntk/engine/activations/erf.py",
        "4 / np.pi * (self.a * self.b) ** 2 * inverse",
        "4 / np.pi * self.a**2 * self.b * inverse",
        ("tests/engine/activations/test_duals.py",),
    ),
    Fault(
        "cosine-phase",  # right without a phase
        "so3ntk/engine/activations/trigonometric.py",
        "dual, slope = own * cos2 + other * sin2, other * cos2 + own * sin2",
        "dual, slope = own * cos2 + other * sin2, other * cos2 - own * sin2",
        ("tests/engine/activations/test_duals.py",),
    ),
    Fault(
        "monomial-pairings",  # right up to degree 2
        "so3ntk/engine/activations/monomial.py",
        "terms.append((rest, pairings**2 * math.factorial(rest), j))",
        "terms.append((rest, pairings * math.factorial(rest), j))",
        ("tests/engine/activations/test_duals.py",),
    ),
    Fault(
        "modulus-derivative-in-variances",  # the rule of differentiation alone: values stay
        "so3ntk/engine/activations/angles.py",
        "found.alignment * dc + 1 / np.pi * found.root * growth",
        "found.alignment * dc + 2 / np.pi * found.root * growth",
        ("tests/engine/activations/test_duals.py",),
    ),
    Fault(
        "price-theorem-second-variance",  # the same of a quadrature, on one side of the pair
        "so3ntk/engine/activations/elementwise.py",
        "tangent += 0.5 * expectation(f, differentiate(dg), nodes, *primals) * dq2",
        "tangent += expectation(f, differentiate(dg), nodes, *primals) * dq2",
        ("tests/engine/activations/test_duals.py",),
    ),
    Fault(
        "aligned-too-early",  # correlations within 1e-9 of one count as one
        "so3ntk/engine/activations/angles.py",
        "aligned = product < 8 * jnp.finfo(product.dtype).eps * square",
        "aligned = product < 8e6 * jnp.finfo(product.dtype).eps * square",
        ("tests/engine/activations/test_duals.py", "tests/engine/activations/test_end_points.py"),
    ),
)

LAYERS = (
    Fault(
        "dense-bias-dropped",
        "so3ntk/engine/layers/affine.py",
        "Scales.of(where, self.W_std, self.b_std, self.parametrization, fan_in)",
        "Scales.of(where, self.W_std, None, self.parametrization, fan_in)",
        ("tests/sphere/test_reference.py",),
    ),
    Fault(
        "weights-not-squared",  # the standard deviation, where the variance is meant
        "so3ntk/engine/parametrization.py",
        "return cls(weight, bias, weight, bias)",
        "return cls(weight**0.5, bias, weight**0.5, bias)",
        ("tests/sphere/test_reference.py",),
    ),
    Fault(
        "standard-bias-gain",  # the standard parametrisation trains biases at the rate of the other one
        "so3ntk/engine/parametrization.py",
        "return cls(weight, bias, fan_in, None if b_std is None else 1.0)",
        "return cls(weight, bias, fan_in, bias)",
        ("tests/sphere/test_reference.py",),
    ),
    Fault(
        "lifting-twice-on-the-sphere",  # where layers do not collapse to one function
        "so3ntk/engine/layers/source.py",
        "state = State(geometry, correlation, geometry.scale(correlation, 0), q1, q2)",
        "state = State(geometry, correlation, correlation, q1, q2)",
        ("tests/engine/test_fields.py", "tests/contract/test_conformance.py"),
    ),
    Fault(
        "lifting-twice-with-caps",
        "so3ntk/sphere/layers/lift.py",
        "state = State(geometry, averaged, jnp.zeros_like(averaged), q1, q2)",
        "state = State(geometry, averaged, averaged, q1, q2)",
        ("tests/sphere/test_local.py",),
    ),
    Fault(
        "lifting-twice-on-images",
        "planar/layers.py",
        "state = State(geometry, correlation, jnp.zeros_like(correlation), *variances)",
        "state = State(geometry, correlation, correlation, *variances)",
        ("tests/planar/test_conformance.py::test_linear_network_has_three_layers_to_train", "tests/planar"),
    ),
    Fault(
        "variance-of-a-sum",  # the second signal's variance after two branches is that of the first branch
        "so3ntk/engine/state.py",
        "add(a.variance2, b.variance2),",
        "a.variance2,",
        ("tests/contract/test_conformance.py::test_values[residual block]", "tests/contract/test_conformance.py"),
    ),
    Fault(
        "filter-spectrum-in-deviations",
        "so3ntk/sphere/global_support.py",
        "blocks.values * jnp.asarray(filter.variances, blocks.values.dtype)[degrees]",
        "blocks.values * jnp.sqrt(jnp.asarray(filter.variances, blocks.values.dtype))[degrees]",
        (
            "tests/contract/test_conformance.py::test_values[convolution with a spectrum]",
            "tests/contract/test_conformance.py",
        ),
    ),
    Fault(
        "smoothness-of-branches",  # the grid is chosen for the smoothest branch
        "so3ntk/engine/layers/combinators.py",
        "return min((layer.smoothness for layer in self.layers), default=math.inf)",
        "return max((layer.smoothness for layer in self.layers), default=math.inf)",
        ("tests/sphere/test_quadrature.py::test_the_rule_sees_the_roughest_branch_and_the_smallest_cap",),
    ),
)

ROTATIONS = (
    Fault(
        "euler-angles-southern-half",
        "so3ntk/sphere/rotations.py",
        "gamma = np.where(north, total - alpha, alpha - difference)",
        "gamma = np.where(north, total - alpha, difference - alpha)",
        ("tests/sphere/test_rotations.py",),
    ),
    Fault(
        "euler-angles-about-fixed-axes",  # of the grid's list of rotations: kernels use its angles
        "so3ntk/sphere/haar.py",
        'base = Rotation.from_euler("ZYZ", self.representatives)',
        'base = Rotation.from_euler("zyz", self.representatives)',
        ("tests/engine/test_fields.py", "tests/sphere/test_quadrature.py", "tests/sphere/test_irreps.py"),
    ),
    Fault(
        "quadrature-weights-of-other-rings",  # they still sum to one
        "so3ntk/sphere/haar.py",
        "return np.tile(np.repeat(weights, self.n // 4), self.n // 4)",
        "return np.repeat(weights, (self.n // 4) ** 2)",
        ("tests/engine/test_fields.py", "tests/sphere/test_quadrature.py"),
    ),
    Fault(
        "sine-parts-exchanged",
        "so3ntk/sphere/transforms/separable.py",
        "numpy.stack([q - r, m - p])",
        "numpy.stack([q - r, p - m])",
        ("tests/sphere/test_transforms.py",),
    ),
    Fault(
        "images-beta-not-reflected",  # only blocks and samples see it: means do not
        "so3ntk/sphere/transforms/separable.py",
        "flipped[image] = left_y ^ right_y",
        "flipped[image] = False",
        ("tests/sphere/test_transforms.py",),
    ),
    Fault(
        "bands-lose-their-lowest-degree",
        "so3ntk/sphere/transforms/separable.py",
        "if low > degree:",
        "if low >= degree > 0:",
        ("tests/sphere/test_transforms.py",),
    ),
    Fault(
        "sign-classes-transposed",
        "so3ntk/sphere/haar.py",
        "classes = 4 * bits[row] + bits[column]",
        "classes = bits[row] + 4 * bits[column]",
        ("tests/engine/test_fields.py", "tests/sphere/test_quadrature.py"),
    ),
    Fault(
        "aligned-pairs-never-refined",
        "so3ntk/sphere/quadrature.py",
        "AdaptiveGrid(ProductGrid(separated), ProductGrid(aligned), ALIGNED - 1.2 * (bandlimit / separated) ** 2)",
        "AdaptiveGrid(ProductGrid(separated), ProductGrid(aligned), 1.0)",
        ("tests/sphere/test_quadrature.py::test_rule_reaches_its_tolerance", "tests/sphere/test_quadrature.py"),
    ),
    Fault(
        "alignment-as-if-peaks-were-seen-too-high",  # the coarse grid misses the peak of a pair, and sees it too low
        "so3ntk/sphere/quadrature.py",
        "ALIGNED - 1.2 * (bandlimit / separated) ** 2)",
        "ALIGNED + 1.2 * (bandlimit / separated) ** 2)",
        ("tests/sphere/test_adaptive_grids.py", "tests/sphere/test_quadrature.py"),
    ),
    Fault(
        "colatitudes-of-one-sampling",
        "so3ntk/sphere/sampling.py",
        "lambda L: (2 * np.arange(L) + 1) * np.pi / (2 * L - 1),",
        "lambda L: (2 * np.arange(L) + 1) * np.pi / (2 * L),",
        ("tests/sphere/test_sphere.py", "tests/sphere/test_rotations.py"),
    ),
    Fault(
        "calibration-one-level-too-coarse",
        "so3ntk/sphere/calibration.py",
        "chosen[kind] = levels[len(results) - 3]",
        "chosen[kind] = levels[max(len(results) - 4, 0)]",
        (
            "tests/sphere/test_quadrature.py::test_calibration_takes_the_coarsest_grid",
            "tests/sphere/test_quadrature.py",
        ),
    ),
    Fault(
        "warning-a-hundred-times-late",
        "so3ntk/sphere/calibration.py",
        "if error > 2 * net.rtol:",
        "if error > 200 * net.rtol:",
        (
            "tests/sphere/test_quadrature.py::test_warning_once_for_each_network_and_grid",
            "tests/sphere/test_quadrature.py",
        ),
    ),
    Fault(
        "tabulation-a-hundred-times-too-rough",
        "so3ntk/engine/evaluation/nodes.py",
        "bound = 1e-10 if jnp.finfo(dtype).bits > 32 else 3e-6",
        "bound = 1e-8 if jnp.finfo(dtype).bits > 32 else 3e-4",
        ("tests/engine/test_tower.py",),
    ),
)

TENSORS = (
    Fault(
        "block-not-transposed",  # of two inputs exchanged: right for kernels that are numbers
        "so3ntk/engine/evaluation/sums.py",
        "return turned.swapaxes(-1, -2) if kernel.ndim > axis + 2 else turned",
        "return turned",
        ("tests/sphere/test_irreps.py::test_tiles_and_symmetry", "tests/sphere/test_irreps.py"),
    ),
    Fault(
        "moment-transposed",  # of linear networks, whose field is kept as coefficients
        "so3ntk/sphere/global_support.py",
        "return field.values[start : start + side**2].reshape(side, side) / side",
        "return field.values[start : start + side**2].reshape(side, side).T / side",
        ("tests/sphere/test_irreps.py::test_block_of_a_band_limited_convolution", "tests/sphere/test_irreps.py"),
    ),
    Fault(
        "parity-of-layers-that-do-not-collapse",
        "so3ntk/sphere/o3.py",
        "return (first + irrep.sign * second) / 2",
        "return (first + second) / 2",
        ("tests/sphere/test_irreps.py::test_explicit_sum_over_rotations", "tests/sphere/test_irreps.py"),
    ),
    Fault(
        "parity-with-caps",
        "so3ntk/sphere/local_support.py",
        "swap = irrep.sign != Irrep(irrep.degree).sign",
        "swap = irrep.sign == Irrep(irrep.degree).sign",
        ("tests/sphere/test_irreps.py::test_filters_on_caps", "tests/sphere/test_irreps.py"),
    ),
    Fault(
        "finite-irrep-factor",
        "so3ntk/sphere/features.py",
        "values = total.reshape(*total.shape[:2], -1) * irrep.size**0.5",
        "values = total.reshape(*total.shape[:2], -1)",
        ("tests/sphere/test_irreps.py::test_finite_network", "tests/finite"),
    ),
    Fault(
        "improper-motions-of-a-field",  # the kernels stay, their list of motions is that of SO(3) twice
        "so3ntk/sphere/space.py",
        "matrices, weights = np.concatenate([matrices, -matrices]), np.tile(weights, 2) / 2",
        "matrices, weights = np.concatenate([matrices, matrices]), np.tile(weights, 2) / 2",
        ("tests/sphere/test_o3.py::test_fields_hold_both_cosets", "tests/sphere/test_o3.py"),
    ),
    Fault(
        "diagonal-of-blocks",  # of molecules with several atoms
        "so3ntk/matrices/diagonal.py",
        "both = np.where(off, values + mirrored, (values + mirrored) / 2)",
        "both = np.where(off, 2 * values, (values + mirrored) / 2)",
        ("tests/sphere/test_irreps.py::test_sums_over_atoms_and_the_diagonal", "tests/sphere/test_irreps.py"),
    ),
    Fault(
        "leave-out-components",  # one by one, where whole inputs are meant
        "so3ntk/learning/block_ridge.py",
        "np.linalg.solve(own, dual_coef[..., None])[..., 0]",
        'dual_coef / np.einsum("naa->na", own)',
        (
            "tests/learning/test_tensor_regressor.py::test_leave_one_out_is_a_refit",
            "tests/learning/test_tensor_regressor.py",
        ),
    ),
    Fault(
        "tensor-deviation-not-squared",
        "so3ntk/learning/tensors.py",
        "return covariance * float(part.fit.amplitude[0]) ** 2",
        "return covariance * float(part.fit.amplitude[0])",
        (
            "tests/learning/test_tensor_regressor.py::test_posterior_deviation",
            "tests/learning/test_tensor_regressor.py",
        ),
    ),
)

CAPS = (
    Fault(
        "cap-multipliers",  # right for degrees 0 and 1
        "so3ntk/sphere/positions.py",
        "math.cos(support / 2) ** 2 * jacobi / degrees",
        "math.cos(support / 2) ** 2 * jacobi * 2 / (degrees + 1)",
        ("tests/sphere/test_local.py",),
    ),
    Fault(
        "position-weights-of-other-rings",  # they still sum to one
        "so3ntk/sphere/positions.py",
        "return np.tile(np.repeat(rings, self.n // 2), 8) / (4 * self.n)",
        "return np.tile(rings, 4 * self.n) / (4 * self.n)",
        ("tests/sphere/test_local.py",),
    ),
    Fault(
        "rings-of-the-wider-cap",  # the grid of positions is chosen for the largest support, not the smallest
        "so3ntk/sphere/quadrature.py",
        "smallest = min(angle for angle in map(_support",
        "smallest = max(angle for angle in map(_support",
        ("tests/sphere/test_quadrature.py::test_the_rule_sees_the_roughest_branch_and_the_smallest_cap",),
    ),
)

IMAGES = (
    Fault(
        "window-cut-at-one-image",  # zero padding at x, and not at x + d
        "planar/windows.py",
        "return seen(x, y) & seen((x + shift) % n, (y + shift) % n)",
        "return seen(x, y)",
        ("tests/planar/test_kernels.py", "tests/planar/test_conformance.py"),
    ),
    Fault(
        "turns-the-other-way",  # the set of views is the same, and so are pooled kernels
        "planar/groups.py",
        "return jnp.stack([jnp.rot90(image[:, ::-1] if mirrored else image, k)",
        "return jnp.stack([jnp.rot90(image[:, ::-1] if mirrored else image, -k)",
        ("tests/planar/test_augmentation.py::test_motions_are_the_views_of_the_groups", "tests/planar"),
    ),
    Fault(
        "variances-after-average-pooling",  # of the second image: not turned
        "planar/pooling.py",
        "still = {name: field[motion.element, 0, 0] for name",
        "still = {name: field[0, 0, 0] for name",
        ("tests/planar/test_pooling.py", "tests/planar/test_fields.py"),
    ),
    Fault(
        "average-pooling-scale",  # of finite networks and their features, by one axis of the window
        "planar/features.py",
        "return ImageFeatures(jnp.mean(tiles, axis=(3, 5)), self.group)",
        "return ImageFeatures(jnp.sum(tiles, axis=(3, 5)) / window, self.group)",
        (
            "tests/finite/test_monte_carlo_images.py::test_network[everywhere]",
            "tests/finite/test_monte_carlo_images.py",
        ),
    ),
    Fault(
        "mean-over-border",  # of windows with padding VALID, which leave fewer positions
        "planar/geometry.py",
        "return total * (math.prod(self.size) / math.prod(self.positions) ** 2)",
        "return total / math.prod(self.positions)",
        ("tests/planar/test_kernels.py", "tests/planar/test_conformance.py"),
    ),
    Fault(
        "sides-exchanged",  # of a rectangle, where a window meets the border of the second image
        "planar/geometry.py",
        "return window_mean(field, filter, displacement, self.size)",
        "return window_mean(field, filter, displacement, self.size[::-1])",
        ("tests/planar/test_rectangles.py",),
    ),
    Fault(
        "fan-in-of-the-wrong-axis",  # pixels along a side in place of elements of the group
        "planar/layers.py",
        "elements, channels = features.values.shape[1], features.channels",
        "elements, channels = features.values.shape[2], features.channels",
        ("tests/finite/test_monte_carlo_images.py::test_network[residual]", "tests/finite/test_monte_carlo_images.py"),
    ),
    Fault(
        "images-divided-by-256",
        "planar/datasets/image_data.py",
        "return values.astype(np.float32) / np.float32(255)",
        "return values.astype(np.float32) / np.float32(256)",
        ("tests/planar/test_datasets_idx.py", "tests/planar/test_datasets_npz.py"),
    ),
    Fault(
        "class-names-sorted",  # labels that are text, where the file states the order of classes
        "planar/datasets/npz.py",
        "place = {name: number for number, name in enumerate(classes)}",
        "place = {name: number for number, name in enumerate(sorted(classes))}",
        ("tests/planar/test_datasets_npz.py",),
    ),
    Fault(
        "one-turn-missing",  # test images keep to three of the four quarter turns
        "planar/datasets/turns.py",
        '"quarter_turns", 0)).integers(4, size=len(data))',
        '"quarter_turns", 0)).integers(3, size=len(data))',
        ("tests/planar/test_datasets.py",),
    ),
)

KERNELS: tuple[Fault, ...] = (*ACTIVATIONS, *LAYERS, *ROTATIONS, *TENSORS, *CAPS, *IMAGES)
