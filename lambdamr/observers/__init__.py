"""What watches a job, and never changes it."""
