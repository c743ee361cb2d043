from hypothesis import settings

# The machine may be busy: a test has a time limit (pyproject.toml), an example of it has none.
settings.register_profile("lambdamr", deadline=None)
settings.load_profile("lambdamr")
