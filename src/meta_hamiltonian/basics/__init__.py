"""What all other packages build on, without any physics: random numbers, whole files, devices, errors, names."""
