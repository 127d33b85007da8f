"""The code that runs in the child, and nowhere else."""
