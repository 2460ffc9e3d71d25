"""The one time limit of the tests, which is there for what hangs: however slow the machine, no test ends by it."""

HANG = 1200  # seconds
