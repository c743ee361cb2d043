"""What is the user's own, on its way to the workers and back: functions, modules, exceptions."""
