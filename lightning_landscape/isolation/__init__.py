"""Measuring without a trace: copies that share no state, random streams, precision, module state, outside effects."""
