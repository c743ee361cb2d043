"""Where finished values are kept for a second call, and how that call is known to be the same."""
