"""A family of which nothing is known but recordings."""

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.systems.base import System


@register
class Recorded(System):
    """A family without a formula: its coordinates and where they live come from recordings of its members.

    Whether its members conserve energy is not known in advance: the friction of each is found along with its law.
    """

    domain_from_data = True
    # Hidden units fit the noise of few recordings: a law that is a polynomial is to be found as one.
    degree = 4

    def __init__(self, domain: Domain | None = None):
        """**Arguments:** `domain`: what the recordings tell, or the checkpoint of a training; None is a box of
        half-widths 1, until they are read.
        """
        self.domain = Domain.box([1.0, 1.0]) if domain is None else domain

    @property
    def name(self) -> str:
        """For messages and figures."""
        return "the recorded family"
