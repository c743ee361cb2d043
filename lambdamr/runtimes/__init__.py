"""What runs where there is no driver: the handlers of serverless functions."""
