r"""How the condition number and the mean predictor of a tangent kernel go with depth l, deep in a network.

With n training inputs, p the diagonal of Theta and p_ab what its other entries tend to, Theta = (p - p_ab) 1 + p_ab 1 1^T up to
what still depends on the inputs, so that kappa = 1 + n p_ab / (p - p_ab). P is the predictor of one test input,
Theta_*X Theta_XX^-1; its part on centred targets is what the inputs still say. Three cases:

* chi_1 < 1: p - p_ab falls as l chi_1^l, and as chi_1^(l/2) for activations with a kink, whose slope has a root at
  correlation one; P keeps its size.
* chi_1 = 1: p and p_ab grow as l q* with p_ab / p = 1/3, with a kink 1/4; kappa goes to (n + 2)/2 and (n + 3)/3.
* chi_1 > 1: p grows as chi_1^l, p_ab stays, and what it still says of the inputs falls as l chi_c^l.

Leading terms are late: for Erf at chi_1 = 0.961 and 1.035 the factor of a layer is theirs to 0.4 % from l = 80 on, but its
logarithm to 7 and 12 % at l = 80, to 2 % from 200 and 300 on. Where the maps have derivatives the recursion is expanded about
its fixed point, with K_ab = c* q* + d_ab and Theta_ab = p_ab + e_ab known at one depth. A map d <- chi d + b d^2 / 2 + ... is,
to its second order, one of fractions, d / (1 + a d) <- chi d / (1 + a d), which its flow stays close to where chi is near one;
what it leaves of the tangent kernel is the flow's derivative times a slow part:

.. math:: d = \frac{z}{1 - a z}, \qquad e = \frac{w + v z^2}{(1 - a z)^2}, \qquad a = \frac{b}{2 \chi (\chi - 1)}, \qquad
          v = \frac{s' / 2 + a s - 2 a \chi s}{\chi (\chi - 1)}, \\
          z \leftarrow \chi^m z, \qquad w \leftarrow \chi^m (w + m s z / \chi), \qquad p \leftarrow p^* + \chi_1^m (p - p^*)

m layers on, s and s' the first and the second derivative of the tangent kernel's map in K. Errors are of third order in d, and
fall as chi^(2m). Matched at 200, its logarithmic rates are right to 0.7 % from l = 80 on, to 0.04 % from 120 (to first order,
a = v = 0: 15 % and 54 %, 2 % and 8 %).
Source: Xiao, Pennington, Schoenholz, Disentangling trainability and generalization in deep neural networks (2020), for
smooth activations; the exponents of kinks follow from the same expansion with 1 - chi(c) ~ (1 - c)^(1/2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from so3ntk.spectra.block import Block, Tangent
from so3ntk.spectra.fixed_points import FixedPoints

#: Of a d: beyond it the expansion to second order is not used.
CLOSE = 0.5
Depths = Float[np.ndarray, " depths"]
Matrix = Float[np.ndarray, "n n"]


class Conditioning(NamedTuple):
    """Of a tangent kernel: its condition number on the training inputs, the size of the mean predictor of the last input
    on centred targets, and its value on a constant target of one; or arrays of them."""

    condition: Any
    centred: Any
    constant: Any


def conditioning(theta: Matrix) -> Conditioning:
    """Those of a kernel of n training inputs and one test input, the last."""
    train, test = theta[:-1, :-1], theta[-1, :-1]
    if not np.isfinite(theta).all():
        return Conditioning(math.nan, math.nan, math.nan)
    values = np.linalg.eigvalsh(train)
    if values[0] <= 0:
        return Conditioning(math.inf, math.nan, math.nan)
    weights = np.linalg.solve(train, test)
    return Conditioning(
        float(values[-1] / values[0]), float(np.linalg.norm(weights - weights.mean())), float(weights.sum())
    )


@dataclass(frozen=True)
class Law:
    """limit + A exp(log(l)), in short ``text``; log None: the limit alone, NaN where nothing is known. A is matched to a value."""

    text: str
    log: Callable[[Depths], Depths] | None = None
    limit: float = 0.0

    def through(self, depth: int, value: float, depths: Depths) -> Depths:
        """At all depths, with the A that a value at one depth has."""
        if self.log is None:
            return self.limit + 0 * depths
        with np.errstate(over="ignore"):
            return self.limit + (value - self.limit) * np.exp(self.log(depths) - self.log(np.asarray(float(depth))))

    def factor(self, depth: float) -> float:
        """By what value - limit changes from a depth to the next layer."""
        return 1.0 if self.log is None else float(np.exp(self.log(np.array(depth + 1.0)) - self.log(np.array(depth))))


class Laws(NamedTuple):
    """The leading terms of the three."""

    condition: Law
    centred: Law
    constant: Law


def laws(points: FixedPoints, block: Block, n: int) -> Laws:
    """Those of a phase. n: training inputs."""
    kinked = block.smoothness < 1
    if block.homogeneity == 1.0 and not kinked:  # linear
        stays = Law("constant", lambda depth: 0 * depth)
        return Laws(stays, stays, stays)
    if points.phase == "critical" or block.homogeneity == 1.0:
        k = 3 if kinked else 2
        return Laws(
            Law(f"→ (n + {k})/{k} = {(n + k) / k:.4g}", lambda depth: -np.log(depth), (n + k) / k),
            Law("~ 1/l", lambda depth: -np.log(depth)),
            Law(f"→ n/(n + {k})", lambda depth: -np.log(depth), n / (n + k)),
        )
    if points.q_star == 0 or points.phase == "unbounded" or not 0 < points.chi_1 < math.inf:
        unknown = Law("not known", None, math.nan)
        return Laws(unknown, unknown, unknown)
    rate, rate_c = math.log(points.chi_1), math.log(abs(points.chi_c)) if points.chi_c else -math.inf
    if points.phase == "ordered":
        smooth = Law("~ 1/(l χ₁^l)", lambda depth: -np.log(depth) - depth * rate)
        return Laws(Law("~ χ₁^(-l/2)", lambda depth: -0.5 * depth * rate) if kinked else smooth,
                    Law("→ constant", lambda depth: 0 * depth), Law("→ 1", None, 1.0))  # fmt: skip
    said = lambda depth: np.log(depth) + depth * (rate_c - rate)  # noqa: E731
    if points.c_star < 1e-9:  # nothing constant is left either
        return Laws(Law("- 1 ~ l (χ_c/χ₁)^l", said, 1.0), Law("~ l (χ_c/χ₁)^l", said), Law("~ l (χ_c/χ₁)^l", said))
    falls = lambda depth: -depth * rate  # noqa: E731
    return Laws(Law("- 1 ~ χ₁^(-l)", falls, 1.0), Law("~ l (χ_c/χ₁)^l", said), Law("~ χ₁^(-l)", falls))


def is_expanded(points: FixedPoints, block: Block) -> bool:
    """Whether the recursion has derivatives at its fixed point."""
    interior = points.phase == "chaotic" and math.isfinite(points.chi_1)
    at_one = points.phase == "ordered" and block.smoothness >= 1 and points.c_star == 1.0
    return (interior or at_one) and points.q_star > 0 and block.homogeneity != 1.0


def expanded(block: Block, points: FixedPoints, kernel: Matrix, theta: Matrix, layers: Depths) -> list[Conditioning]:
    """What comes so many layers after a depth where both kernels are known, n training inputs and a test input; NaN for NaN."""
    q, c = points.q_star, points.c_star * points.q_star
    between, own = block.tangent(c, q), block.tangent(q, q)
    slope, response = between.slope, between.response
    d, e = kernel - c, theta - between.fixed
    np.fill_diagonal(d, 0.0)
    diagonal = np.diag(theta) - own.fixed
    a, v = _second_order(between)
    near = np.abs(a * d) < CLOSE  # inputs that are still alike in a chaotic network are near another fixed point
    a, v = near * a, near * v
    z = d / (1 + a * d)
    w = e * (1 - a * z) ** 2 - v * z**2
    found = []
    for m in layers:
        if math.isnan(m):
            found.append(Conditioning(math.nan, math.nan, math.nan))
            continue
        with np.errstate(over="ignore"):
            growth, decay = own.slope**m, slope**m
            if np.max(np.abs(a * decay * z)) >= CLOSE:  # before the expansion holds
                found.append(Conditioning(math.nan, math.nan, math.nan))
                continue
            off = w + m * response * z / slope + v * decay * z**2 if slope else np.where(m == 0, w, 0.0)
            off = off / (1 - a * decay * z) ** 2
            if points.phase == "ordered":
                np.fill_diagonal(off, diagonal)
                found.append(_nearly_constant(between.fixed, off, decay))
            else:
                scaled = (between.fixed + decay * off) / growth
                np.fill_diagonal(scaled, own.fixed / growth + diagonal)
                found.append(conditioning(scaled))
    return found


def _second_order(tangent: Tangent) -> tuple[float, float]:
    """a and v; zero where there is no second derivative, or no slope."""
    j = tangent.slope
    if j == 0 or not (math.isfinite(tangent.bend) and math.isfinite(tangent.response_bend)):
        return 0.0, 0.0
    a = tangent.bend / (2 * j * (j - 1))
    return a, (tangent.response_bend / 2 + a * tangent.response * (1 - 2 * j)) / (j * (j - 1))


def _nearly_constant(p: float, off: Matrix, decay: float) -> Conditioning:
    """Of p 1 1^T + decay off, where the second is far below the rounding of the first."""
    if decay > 1e-6:
        return conditioning(p + decay * off)
    n = len(off) - 1
    basis = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:]
    within = basis.T @ off[:-1, :-1] @ basis
    # The training inputs' mean is fitted by the constant: the rest is a regression on differences
    ones = np.ones(n) / n
    away = basis.T @ (off[-1, :-1] - off[:-1, :-1] @ ones)
    smallest = np.linalg.eigvalsh(within)[0] * decay
    condition = n * p / smallest if smallest > 0 else math.inf
    return Conditioning(float(condition), float(np.linalg.norm(np.linalg.solve(within, away))), 1.0)
