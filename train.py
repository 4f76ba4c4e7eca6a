"""`python train.py algo=maml`: meta-trains, tests on new systems and reports. `--help` explains every key."""

from meta_hamiltonian.jobs.command import main

if __name__ == "__main__":
    main()
