"""The command's parts: a parallel, ordered pipe for Python functions and programs.

    sources      cutting           pace           crew | worker            slots         flow         sink
    files   ->   whole records ->  pieces    ->   calls, programs    ->    output,   ->  in order ->  standard output,
    in blocks                      of 25 ms       in the workers           notes                      job log, …
    |<--------------- parent --------------->|<------ workers ------->|<------------------ parent ------------------>|

A *record* is the unit that is run once: a line, a row, a block.  A *piece* is a run of records that travels together,
in a *slot* of shared memory.  The parent puts its input there, and the worker its output, record by record.  So a line
costs the parent next to nothing, and the output of a piece can be written before the piece ends.  When a worker dies,
the record that it was at is known exactly.
"""
