"""What runs in the child, and nowhere else."""
