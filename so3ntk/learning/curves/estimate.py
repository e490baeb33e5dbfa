"""A sample's learning curve: the population it points to, and how far what halves and quarters of it say can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from so3ntk.learning.curves.population import Errors, Population
from so3ntk.learning.curves.resolvents import Resolvents, mean_of
from so3ntk.learning.curves.samples import Sample

#: Ridges in units of the mean diagonal, from the smallest to so many times the rows, and how many to a decade.
SMALLEST, LARGEST, PER_DECADE = 1e-10, 100.0, 4
#: Halvings of the sample: the whole is extrapolated from by halves and quarters, these by theirs.
HALVINGS = 4
#: Inputs that a part has at least, beyond three for each unpenalised column.
PART = 4
#: Half the band in standard deviations of log rmse, more than the 1.645 of nine in ten, since leave-one-out errors of one sample are not
#: independent of each other; and that part of a deviation which no data lower.
DEVIATIONS, FLOOR = 1.85, 0.02


@dataclass(frozen=True)
class Estimate:
    """Resolvents of the sample, the population they point to, and the populations that its halves and its quarters do.

    levels: means of the resolvents of whole, halves, quarters and so on, as many as there are.
    """

    whole: Resolvents
    population: Population
    parts: tuple[tuple[Population, ...], ...]
    levels: tuple[Resolvents, ...]

    @classmethod
    def of(cls, sample: Sample, seed: int) -> Estimate:
        """Of a shuffled sample, halved while its parts are large enough."""
        columns = sample.unpenalised
        decades = np.log10(LARGEST * sample.rows / SMALLEST)
        ridges = sample.scale * np.geomspace(SMALLEST, LARGEST * sample.rows, int(decades * PER_DECADE) + 1)
        order = np.random.default_rng(seed).permutation(len(sample))
        tree = [[Resolvents.of(sample, ridges)]]
        for halving in range(1, HALVINGS + 1):
            size = len(sample) >> halving
            if size < PART + 3 * columns:
                break
            parts = [order[start * size : (start + 1) * size] for start in range(2**halving)]
            tree.append([Resolvents.of(sample.part(np.sort(part)), ridges) for part in parts])
        means = [mean_of(level) for level in tree]
        population = Population.of(means, sample.components, columns)
        smaller = tuple(
            tuple(_population(tree, level, place, sample.components, columns) for place in range(2**level))
            for level in range(1, min(3, len(tree) - 1))
        )
        return cls(tree[0][0], population, smaller, tuple(means))

    def errors(self, inputs: float, ridges: Float[np.ndarray, " p"]) -> Errors:
        """The predictions at one number of inputs."""
        return self.population.errors(inputs, ridges)

    def deviation(self, inputs: float, ridge: float) -> float:
        r"""The standard deviation of log rmse: of the sample's own errors, and of continuing beyond it.

        The second is what predictions of the whole sample's leave-one-out error from its halves and quarters missed, in units of
        the logarithm of how much further they reached; without such parts as much as all that is predicted to be gained.
        """
        whole = self.whole
        place = np.log(ridge) if ridge > 0 else -np.inf
        error, spread = (np.interp(place, np.log(whole.ridges), values) for values in (whole.errors, whole.spread))
        sampling = spread / error / 2 if error > 0 else 0.0
        further = max(math.log(inputs / whole.inputs), 0.0)
        asked = np.array([ridge])
        missed = []
        for level, parts in enumerate(self.parts, start=1):
            found = [part.errors(whole.inputs - 1.0, asked).mse[0] for part in parts]
            missed.append(float(np.mean(np.log(found)) - np.log(error)) / 2 / (level * np.log(2)))
        if missed:
            grown = further * float(np.sqrt(np.mean(np.square(missed))))
        else:
            there, here = (float(self.errors(size, asked).mse[0]) for size in (inputs, float(whole.inputs)))
            grown = abs(math.log(there / here)) / 2 if further > 0 else 0.0
        return math.sqrt(sampling**2 + grown**2 + FLOOR**2)


def _population(tree: list[list[Resolvents]], level: int, place: int, components: int, columns: int) -> Population:
    """That of one part, by itself and by its halves and quarters, as many as there are."""
    below = range(min(3, len(tree) - level))
    means = [mean_of(tree[level + k][place * 2**k : (place + 1) * 2**k]) for k in below]
    return Population.of(means, components, columns)
