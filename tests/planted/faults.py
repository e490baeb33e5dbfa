"""The faults: for each one a line of the library, the mistake to put in its place, and the tests that should notice.

All of them run without an error and give plausible numbers. Many act on one branch alone: on blocks but not on numbers,
with several outputs, where a batch is padded.
"""

from fault import Fault
from faults_of_curves import CURVES
from faults_of_depth import DEPTH
from faults_of_forces import FORCE_FAULTS
from faults_of_inducing import INDUCING
from faults_of_kernels import KERNELS
from faults_of_maps import MAPS
from faults_of_moments import MOMENTS
from faults_of_products import PRODUCTS
from faults_of_results import RESULTS

FAULTS: tuple[Fault, ...] = (*KERNELS, *PRODUCTS, *MOMENTS, *INDUCING, *CURVES, *FORCE_FAULTS, *MAPS, *RESULTS, *DEPTH)
