"""Objectives, which measure the metrics of one batch, and the batches themselves.

An objective may be a module's own step or a criterion. An objective may also give the losses of single samples.
"""
