"""lambdamr against its peers: ratios, measured in one run on the same work."""
