"""Values, errors, checks, locks and waits.  Nothing here knows another package."""
