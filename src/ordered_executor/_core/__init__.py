"""The ordering: tickets, the scheduler, the reorder buffer, futures, streams.  Knows no process."""
