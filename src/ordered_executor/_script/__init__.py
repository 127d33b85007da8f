"""One copy of the user's script in each worker: what the parent sends of it, and where it lives there."""
