"""What the engine asks of a group and of the signals that it acts on: one object for each network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Array, Float

from so3ntk.engine.demand import lifts_of
from so3ntk.engine.evaluation.evaluation import Evaluation, Whole
from so3ntk.engine.evaluation.polynomial import collapse
from so3ntk.engine.evaluation.tower import Nodes
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.quadrature import Quadrature


class Sampled(NamedTuple):
    """What a user sees of the motions of a field: matrices and weights of a quadrature, and positions; else None."""

    motions: Float[Array, "r 3 3"] | None = None
    weights: Float[Array, " r"] | None = None
    positions: Float[Array, "x 3"] | None = None


class Space(ABC):
    """A group and its signals, as the layers of one network (before a sum over parts) use them.

    An author of a group writes ``numbers`` alone where all motions are known and a field holds them all. Spaces whose
    motions are sampled choose a quadrature in ``sampling``, and everything about it is theirs.
    """

    #: In words, what the signals are on.
    name: ClassVar[str]
    #: Whether K(f', f) = K(f, f')^T holds to rounding, or to the quadrature's error alone.
    symmetric_to_rounding = True

    def __init__(self, layers: tuple[Layer, ...]):
        self.layers = layers
        self.inside = tuple(flatten(layers))

    @abstractmethod
    def numbers(self, arrays: Any, evaluation: Evaluation) -> int:
        """How many numbers of one pair's field are held at once, for batches as ``Source.arrays`` reads them."""

    def check(self, signals: Any) -> None:  # noqa: B027 - nothing to refuse
        """ValueError for layers that make no sense for such signals."""

    def check_quadrature(self, quadrature: Any) -> None:
        """TypeError for what is no quadrature. Where motions are exact, any of another space is left unread."""
        if quadrature is not None and not isinstance(quadrature, Quadrature):
            raise TypeError(
                f"serial: expected quadrature to be a ProductGrid, an ExplicitGrid, a LocalGrid or None, got {quadrature!r}."
            )

    def sampling(self, signals: Any, quadrature: Quadrature | None, rtol: float) -> Quadrature | None:
        """The quadrature for a batch: the one given, or that of a rule which sees no values; None for exact motions."""
        return None

    def is_exact(self, signals: Any, sampling: Quadrature | None) -> bool:
        """Whether a quadrature has no error on such signals, so that integrals may be found without it."""
        return True

    def refined(self, signals: Any, quadrature: Quadrature | None, rtol: float) -> Quadrature | None:
        """A quadrature with far smaller errors than the one given, or that of the rule: for few pairs."""
        return quadrature

    def evaluation(
        self,
        sampling: Quadrature | None,
        signals: Any,
        arrays: Any,
        dtype: Any,
        nodes: Nodes | None = None,
        pairs: int = 0,
    ) -> Evaluation:
        """How the network is evaluated. nodes: where its tower is tabulated. pairs: how many will be computed."""
        return Whole(self.layers, None) if nodes is None else collapse(self.layers, None, nodes)

    def sampled(self, sampling: Quadrature | None, dtype: Any) -> Sampled:
        """The motions of a field, for users."""
        return Sampled()

    def feature_grid(self, arrays: Any, quadrature: Quadrature | None, rtol: float) -> Any:
        """What finite networks need beside the signals; None for features without a quadrature."""
        return None

    def warn_if_coarse(self, net: Any, x: Any) -> None:  # noqa: B027 - exact motions have no error
        """Warn, once for each network and quadrature, if its error exceeds ``rtol``."""

    def quadrature_error(self, net: Any, x1: Any, x2: Any, get: str, signals: int) -> float:
        """The largest error of the quadrature on pairs of such signals: 0 for exact motions."""
        return 0.0

    def calibrated(self, net: Any, x: Any, signals: int) -> Quadrature:
        """The coarsest quadrature that reaches ``rtol`` on the signals x."""
        raise ValueError("calibrate: this network has no rotations to choose; its kernels are exact.")


class Vectors(Space):
    """Rows of numbers, on which nothing acts: networks without a lifting layer."""

    name = "vectors"

    def numbers(self, arrays: Any, evaluation: Evaluation) -> int:
        """One."""
        return 1


def space_of(layers: tuple[Layer, ...]) -> Space:
    """The space of a network's lifting layers, of which it has one."""
    lifts = lifts_of(layers)
    return lifts[0].space(layers) if lifts else Vectors(layers)
