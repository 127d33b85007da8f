"""One copy of the user's script in each worker: the parts that the parent sends, and where they live there."""
