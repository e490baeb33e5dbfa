"""Learning curves predicted from one sample: how much data one more digit would take."""
