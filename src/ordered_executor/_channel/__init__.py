"""The parts that the two processes of a lane share: frames, shared memory, the gate.  It knows `_base` only."""
