"""One file for each engine that runs tasks."""
