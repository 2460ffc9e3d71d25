"""One hypothesis profile for this folder: the same examples in every run, few enough for a minute on one core."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    deadline=None,  # a busy machine is no failure
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("fuzz")
