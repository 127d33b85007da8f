"""What the two processes of a lane share: frames on pipes, shared memory, the gate.  Knows `_base` only."""
