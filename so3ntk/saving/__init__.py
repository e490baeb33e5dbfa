"""Networks and fitted estimators in files: readable, without pickles, checked when they are read."""

from so3ntk.saving.description import describe
from so3ntk.saving.models import load, save
from so3ntk.saving.registry import register

__all__ = ["describe", "load", "register", "save"]
