"""Settings that all tests share."""

import hypothesis

# No deadline: a test machine may be busy, and time is measured by scripts/measure.
hypothesis.settings.register_profile("quick", max_examples=100, deadline=None)
hypothesis.settings.register_profile("long", max_examples=20_000, deadline=None)
hypothesis.settings.load_profile("quick")
