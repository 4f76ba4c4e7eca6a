"""From observations to one system: the fit, how sure it is, how it reads, and a file for other programs."""

from meta_hamiltonian.config.asked import FITS
from meta_hamiltonian.inference.fit import Fit, fit

__all__ = ["FITS", "Fit", "fit"]
