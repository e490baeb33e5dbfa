r"""Whether a deep network trains, and what its kernel still says of its inputs.

Through l layers the variance of a feature goes to q*, the correlation of unlike inputs to c*, and a perturbation about them
falls or grows by a factor a layer:

.. math:: \chi_1 = \partial_c C\,|_{c = 1}, \qquad \chi_c = \partial_c C\,|_{c = c^*}, \qquad \chi_q = V'(q^*),
          \qquad \xi = -1 / \ln|\chi| .

At chi_1 < 1 (ordered) all inputs become alike and gradients vanish; at chi_1 > 1 (chaotic) gradients explode and unlike inputs
go to c* < 1; the edge of chaos lies between, where depth costs least. A perturbation of K_r(x) of degree l in the
position x, on caps, falls by chi_c w_l a layer, one of a Fourier mode by chi_c times the window's multiplier: fine details
of the kernel are lost first.

Source: Poole et al. (2016), Schoenholz et al. (2017), Xiao et al. (2020); scales per degree: this library.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float

from planar.windows import Window
from so3ntk.basics.arrays import refuse_masked
from so3ntk.engine.filters import Everywhere
from so3ntk.spectra.asymptotes import Conditioning, Laws, conditioning, expanded, is_expanded, laws
from so3ntk.spectra.block import Block, block_of
from so3ntk.spectra.fixed_points import FixedPoints, fixed_points
from so3ntk.spectra.modes import mode_labels, multipliers
from so3ntk.spectra.phases import edge_of_chaos

MOST_LAYERS = 1_000_000
DEPTHS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300)
#: Condition numbers beyond which double precision does not hold the smallest eigenvalue; of kinks, whose angles are roots.
MOST_CONDITION, MOST_CONDITION_OF_KINKS = 1e9, 1e6
#: In depth scales: where a perturbation of the fixed point is linear to a thousandth, and beyond which double precision holds nothing.
LINEAR, LONGEST = 7, 100
#: What is not known.
NOTHING = Conditioning(math.nan, math.nan, math.nan)
#: Asymptotes are shown from this part of the depth on at which they are matched.
EARLIEST = 4
#: The least that a mean predictor on centred targets is told from rounding.
LEAST_PREDICTOR = 1e-10


@dataclass(frozen=True, eq=False)
class Modes:
    """Depth scales of perturbations in each mode of the position: degrees of caps, (row, column) wave numbers of windows.

    multiplier: w, of all filters of a block together. factor, depth: chi_c w a layer, and -1 / ln|chi_c w|, of kernels; deep
    tangent kernels fall as l (chi_c w)^l. variance_factor, variance_depth: of variances, chi_q w.
    """

    labels: tuple[Any, ...]
    multiplier: Float[np.ndarray, " modes"]
    factor: Float[np.ndarray, " modes"]
    depth: Float[np.ndarray, " modes"]
    variance_factor: Float[np.ndarray, " modes"]
    variance_depth: Float[np.ndarray, " modes"]


@dataclass(frozen=True, eq=False)
class Trainability:
    """What ``trainability`` finds; ``str`` of it is a table.

    block: the layers of one step. q_star, c_star, chi_1, chi_c, chi_q: as at the head of the file; q_star is 0 where variances
    vanish, infinite where they grow without bound, NaN where every variance stays (ReLU at criticality); c_star is NaN where
    correlations stay. phase: "ordered", "critical", "chaotic" or "unbounded".
    depth_1, depth_c, depth_q: -1 / ln chi of each; negative depth_1: over so many layers gradients grow by e.
    modes: None without filters that have modes.
    depths: blocks after the first kernel; condition: kappa(Theta) of the training inputs; mean_predictor: the norm of
    Theta_*X Theta_XX^-1 on centred targets; constant_predictor: its value on targets of one. NaN where double precision
    does not hold them. Those predicted are the recursion expanded about its fixed point, begun at ``matched``, the deepest depth
    that is known (at least seven depth scales, where one is asked for that is deeper), and shown from a quarter of it on; where that has no derivatives the leading terms of ``laws`` through that
    value.
    """

    block: Block
    q_star: float
    c_star: float
    chi_1: float
    chi_c: float
    chi_q: float
    phase: str
    modes: Modes | None
    inputs: int
    depths: tuple[int, ...]
    condition: Float[np.ndarray, " depths"]
    condition_predicted: Float[np.ndarray, " depths"]
    mean_predictor: Float[np.ndarray, " depths"]
    mean_predictor_predicted: Float[np.ndarray, " depths"]
    constant_predictor: Float[np.ndarray, " depths"]
    constant_predictor_predicted: Float[np.ndarray, " depths"]
    matched: int
    laws: Laws
    notes: tuple[str, ...]

    @cached_property
    def edge_factor(self) -> float:
        """By what to multiply all W_std of the block for criticality at these b_std; NaN where no factor from 0.01 to 100 does."""
        return edge_of_chaos(self.block)

    @property
    def edge(self) -> float:
        """The W_std of criticality at this b_std, for blocks of one W_std; NaN for others, and where there is none."""
        stds = {float(layer.W_std) for layer in self.block.affine}
        return self.edge_factor * stds.pop() if len(stds) == 1 else math.nan

    @property
    def depth_1(self) -> float:
        """-1 / ln chi_1: infinite at criticality."""
        return depth_scale(self.chi_1)

    @property
    def depth_c(self) -> float:
        """-1 / ln chi_c: over how many layers inputs are forgotten."""
        return depth_scale(self.chi_c)

    @property
    def depth_q(self) -> float:
        """-1 / ln chi_q: over how many layers variances settle."""
        return depth_scale(self.chi_q)

    def __str__(self) -> str:
        from so3ntk.spectra.depth_tables import table  # the table knows the class

        return table(self)

    __repr__ = __str__

    def plot(self, path: str | PathLike, title: str | None = None) -> Path:
        """kappa and P against depth, measured and predicted, and the scales of modes; written as a PNG."""
        from so3ntk.spectra.depth_tables import picture

        return picture(self, path, title)


def trainability(
    net_or_layer: Any,
    W_std: float | None = None,
    b_std: float | None = None,
    depths: Sequence[SupportsIndex] = DEPTHS,
    *,
    inputs: Any = None,
    modes: SupportsIndex = 8,
) -> Trainability:
    """The fixed points of a deep network's kernel, its depth scales, and how its tangent kernel trains with depth.

    net_or_layer: an activation, followed by a fully connected layer; a block that is repeated, such as
    ``serial(FanOut(2), parallel(serial(Erf(), Dense(W_std=0.9)), Dense(W_std=0.5)), FanInSum())``; or a network that
    repeats one. W_std, b_std: of all linear layers of the block; None for the layers' own (of an activation alone 1 and no bias).
    depths: numbers of blocks, from 0 to a million. inputs: the kernel (n + 1, n + 1) after the first linear layer of n training
    inputs and, last, one test input; by default of nine random unit vectors in nine dimensions, at the variance q*.
    modes: degrees of caps that are listed; of windows the pixels along a side of the image.

    Everything is computed in double precision, whatever JAX is set to, by the duals themselves: any activation and any block
    of pointwise layers and convolutions works. Raises TypeError and ValueError for what is no block, for deviations that
    are negative or no numbers, W_std of zero, no depths or too deep ones, and where no variance attracts.
    """
    where = "trainability"
    block = block_of(net_or_layer, W_std, b_std, where)
    checked = _checked_depths(depths, where)
    count = _count(modes, where, "modes")
    points = fixed_points(block)
    kernel = _start(inputs, points, where)
    run = _worth_running(block, points, checked)
    recursion = dict(zip(run, kernels_at(block, kernel, run), strict=True))
    found = {depth: _reliable(conditioning(theta), block) for depth, (_, theta) in recursion.items()}
    predicted, matched, leading = _predicted(block, points, recursion, found, checked, len(kernel) - 1)
    values = [found.get(depth, NOTHING) for depth in checked]
    known, asymptotes = (Conditioning(*map(np.array, zip(*rows, strict=True))) for rows in (values, predicted))
    return Trainability(
        block=block,
        **points._asdict(),
        phase=points.phase,
        modes=modes_of(block, points, count),
        inputs=len(kernel) - 1,
        depths=checked,
        condition=known.condition,
        condition_predicted=asymptotes.condition,
        mean_predictor=known.centred,
        mean_predictor_predicted=asymptotes.centred,
        constant_predictor=known.constant,
        constant_predictor_predicted=asymptotes.constant,
        matched=matched,
        laws=leading,
        notes=_notes(block, points),
    )


def depth_scale(chi: float) -> float:
    """-1 / ln|chi|: infinite at one, 0 of nothing and of what is infinite."""
    size = abs(chi)
    if math.isnan(size):
        return math.nan
    if size in (0.0, math.inf):
        return 0.0
    return math.inf if abs(size - 1) < 1e-15 else -1 / math.log(size)


def kernels_at(block: Block, kernel: np.ndarray, depths: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both kernels at each depth, both begun with that of the inputs, as after a first linear layer."""
    variances = np.diag(kernel)
    q1, q2 = (np.broadcast_to(q, kernel.shape) for q in (variances[:, None], variances[None, :]))
    state, at, known = (kernel, kernel, q1, q2), 0, {}
    for depth in sorted(set(depths)):
        state = block.after(depth - at, *state, rescale=block.homogeneity == 1.0)
        at, known[depth] = depth, (state[0], state[1])
    return [known[depth] for depth in depths]


def _reliable(found: Conditioning, block: Block) -> Conditioning:
    """NaN in place of what is rounding."""
    most = MOST_CONDITION if block.smoothness >= 1 else MOST_CONDITION_OF_KINKS
    if not found.condition < most:
        return NOTHING
    return found if found.centred > LEAST_PREDICTOR else found._replace(centred=math.nan)


def _worth_running(block: Block, points: FixedPoints, depths: tuple[int, ...]) -> tuple[int, ...]:
    """Of all depths those that double precision can hold anything of, and one at which the recursion is linear."""
    scale = max(abs(depth_scale(points.chi_1)), abs(depth_scale(points.chi_c)))
    if block.homogeneity == 1.0 or points.phase not in ("ordered", "chaotic") or not math.isfinite(scale):
        return tuple(sorted(set(depths)))
    linear = math.ceil(LINEAR * scale)
    return tuple(
        sorted({d for d in depths if d <= LONGEST * scale + 10} | ({linear} if linear < max(depths) else set()))
    )


def _predicted(
    block: Block,
    points: FixedPoints,
    recursion: dict[int, tuple[np.ndarray, np.ndarray]],
    found: dict[int, Conditioning],
    depths: tuple[int, ...],
    inputs: int,
) -> tuple[list[Conditioning], int, Laws]:
    """The asymptotes at all depths, the depth that they are matched at (-1: none is known), and their leading terms."""
    leading = laws(points, block, inputs)
    known = [depth for depth, values in found.items() if depth >= 1 and not any(map(math.isnan, values))]
    if not known:
        return [NOTHING] * len(depths), -1, leading
    last = max(known)
    at = np.array([float(depth) if depth >= last / EARLIEST else math.nan for depth in depths])
    if is_expanded(points, block):
        return expanded(block, points, *recursion[last], at - last), last, leading
    columns = [law.through(last, value, at) for law, value in zip(leading, found[last], strict=True)]
    return [Conditioning(*map(float, values)) for values in zip(*columns, strict=True)], last, leading


def modes_of(block: Block, points: FixedPoints, count: int) -> Modes | None:
    """The depth scales of each mode that the block's filters know; None where there are none, or no fixed point."""
    labels = next(filter(None, (mode_labels(filter, count) for filter in block.filters)), ())
    if not labels or not 0 < points.q_star < math.inf:
        return None
    if any(not mode_labels(filter, count) and not isinstance(filter, Everywhere) for filter in block.filters):
        return None
    weights = [multipliers(filter, labels, count) for filter in block.filters]
    kernel, variance = block.mode_slopes(points.c_star * points.q_star, points.q_star, weights)
    depth, variance_depth = (np.array([depth_scale(chi) for chi in factors]) for factors in (kernel, variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        multiplier = np.where(points.chi_c != 0, kernel / points.chi_c, np.nan)
    return Modes(labels, multiplier, kernel, depth, variance, variance_depth)


def _start(inputs: Any, points: FixedPoints, where: str) -> Float[np.ndarray, "n n"]:
    """The kernel of the inputs. ValueError for what is no kernel of at least three."""
    if inputs is None:
        vectors = np.random.default_rng(0).normal(size=(9, 9))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        kernel = vectors @ vectors.T
        np.fill_diagonal(kernel, 1.0)
        return kernel * (points.q_star if 0 < points.q_star < math.inf else 1.0)
    refuse_masked(inputs, f"{where}: inputs")
    kernel = np.asarray(inputs, np.float64)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or len(kernel) < 3:
        raise ValueError(
            f"{where}: expected inputs, the kernel (n + 1, n + 1) of n >= 2 training inputs and one test input, got an array of "
            f"shape {kernel.shape}. A network's own is net.kernel_fn(x, None, 'nngp')."
        )
    if not np.isfinite(kernel).all() or not np.allclose(kernel, kernel.T, rtol=1e-6) or np.any(np.diag(kernel) <= 0):
        raise ValueError(
            f"{where}: expected inputs to be a symmetric kernel of finite numbers with a positive diagonal; found "
            f"{'NaN or infinity' if not np.isfinite(kernel).all() else 'entries that are none of a kernel'}."
        )
    return (kernel + kernel.T) / 2


def _checked_depths(depths: Any, where: str) -> tuple[int, ...]:
    values = [depths] if isinstance(depths, int | np.integer) else list(depths)
    if not values:
        raise ValueError(
            f"{where}: expected at least one depth, got none. Pass numbers of layers, as depths=(1, 10, 100)."
        )
    checked = tuple(_count(depth, where, "depths", 0) for depth in values)
    if max(checked) > MOST_LAYERS:
        raise ValueError(
            f"{where}: expected depths of at most {MOST_LAYERS:,} layers, got {max(checked):,}. Beyond the depth scales "
            "nothing changes: see depth_c and depth_1 of a shallower one."
        )
    return checked


def _count(value: Any, where: str, name: str, least: int = 1) -> int:
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < least:
        raise ValueError(f"{where}: expected {name} to be integers of at least {least}, got {value!r}.")
    return number


def _notes(block: Block, points: FixedPoints) -> tuple[str, ...]:
    """What the numbers do not say of themselves."""
    notes = []
    if block.homogeneity == 1.0 and not block.is_linear:
        notes.append(
            "Homogeneous without bias: correlations, condition number and mean predictor do not depend on W_std, which sets the "
            "scale alone; no variance attracts but 0, at chi_1 < 1."
        )
    if math.isnan(points.q_star):
        notes.append("Every variance stays as it is.")
    if points.q_star == 0 and block.homogeneity != 1.0:
        notes.append("Variances vanish, as chi_q^l: what is left is the linear part of the network.")
    if points.phase == "unbounded":
        notes.append("Variances grow without bound: no asymptotes. chi are those at a large variance.")
    if math.isinf(points.chi_1):
        notes.append("The kernel has a root at correlation one: chi_1 is infinite, and layers before do not train.")
    if any(isinstance(filter, Window) and not mode_labels(filter, 4) for filter in block.filters):
        notes.append(
            "Windows that are not circular have no Fourier modes: fields depend on the distance to the border."
        )
    return tuple(notes)
