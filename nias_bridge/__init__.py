"""NIAS bridge: a lab's front door to its Slurm cluster."""
