"""Solvers of kernel ridge regression, one algorithm per file, behind one interface: ``solve``."""

from so3ntk.solvers.base import Approximation, Solution, Solver
from so3ntk.solvers.blocked import BlockedCholesky
from so3ntk.solvers.cholesky import Cholesky
from so3ntk.solvers.choose import loo_path, solve
from so3ntk.solvers.conjugate_gradients import ConjugateGradients
from so3ntk.solvers.eigen import Eigen
from so3ntk.solvers.jaxmg import JaxMG
from so3ntk.solvers.lazy import LazyGram
from so3ntk.solvers.nystrom import Nystrom
from so3ntk.solvers.pivoted_cholesky import LowRank, pivoted_cholesky

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
