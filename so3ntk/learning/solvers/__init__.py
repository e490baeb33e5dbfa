"""Solvers of kernel ridge regression, one algorithm per file, behind one interface: ``solve``."""

from so3ntk.learning.solvers.base import Approximation, Solution, Solver
from so3ntk.learning.solvers.blocked import BlockedCholesky
from so3ntk.learning.solvers.cholesky import Cholesky
from so3ntk.learning.solvers.choose import loo_path, solve
from so3ntk.learning.solvers.conjugate_gradients import ConjugateGradients
from so3ntk.learning.solvers.eigen import Eigen
from so3ntk.learning.solvers.jaxmg import JaxMG
from so3ntk.learning.solvers.nystrom import Nystrom
from so3ntk.learning.solvers.pivoted_cholesky import LowRank, pivoted_cholesky
from so3ntk.matrices.lazy import LazyGram

__all__ = [
    "Approximation",
    "BlockedCholesky",
    "Cholesky",
    "ConjugateGradients",
    "Eigen",
    "JaxMG",
    "LazyGram",
    "LowRank",
    "Nystrom",
    "Solution",
    "Solver",
    "loo_path",
    "pivoted_cholesky",
    "solve",
]
