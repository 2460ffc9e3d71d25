"""Isolation of the training from the measurement: copies, random streams, precision, module state, outside effects."""
