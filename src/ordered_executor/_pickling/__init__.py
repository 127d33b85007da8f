"""Objects to bytes and back.  Knows `_base` only."""
