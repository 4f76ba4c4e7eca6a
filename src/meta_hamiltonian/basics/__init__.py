"""What every room stands on and that knows no physics: random numbers, whole files, devices, errors, names."""
