"""From observations to one system: the fit, how sure it is, how it reads, and a file for other programs."""

from meta_hamiltonian.inference.fit import FITS, Fit, fit

__all__ = ["FITS", "Fit", "fit"]
