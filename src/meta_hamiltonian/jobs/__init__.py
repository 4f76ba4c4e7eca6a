"""What `train.py` does: composes a configuration, runs jobs and sweeps, tracks them. Hydra and W&B live here."""
