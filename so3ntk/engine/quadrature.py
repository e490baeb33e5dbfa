"""What a network may be given to sample its motions by."""


class Quadrature:
    """A choice of sampled motions, of which each group has classes of its own: the base of these."""
