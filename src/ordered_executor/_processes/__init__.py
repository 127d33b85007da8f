"""The backend of worker processes: the parent's side."""
