"""Puts the AWS stack up, looks after it, and takes it down; the command line is `lambdamr.cli`."""
