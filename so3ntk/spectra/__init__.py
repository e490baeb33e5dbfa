"""What a kernel learns first, how much data it needs, whether a deep network trains."""

from so3ntk.learning.curves.curve import ErrorCurve, LearningCurve
from so3ntk.spectra.decay import Exponent
from so3ntk.spectra.decomposition import GramSpectrum
from so3ntk.spectra.deep_networks import Trainability, trainability
from so3ntk.spectra.hyperparameter_slopes import Sensitivity, sensitivity
from so3ntk.spectra.irreps import IrrepSpectrum, irrep_spectrum
from so3ntk.spectra.measured import Measured, measured_errors
from so3ntk.spectra.phases import PhaseDiagram, phase_diagram
from so3ntk.spectra.reading import feature_spectrum, spectrum
from so3ntk.spectra.targets import TargetParts

__all__ = [
    "ErrorCurve",
    "Exponent",
    "GramSpectrum",
    "IrrepSpectrum",
    "LearningCurve",
    "Measured",
    "PhaseDiagram",
    "Sensitivity",
    "TargetParts",
    "Trainability",
    "feature_spectrum",
    "irrep_spectrum",
    "measured_errors",
    "phase_diagram",
    "sensitivity",
    "spectrum",
    "trainability",
]
