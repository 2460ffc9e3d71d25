"""What is measured on a batch: a module's own step, a criterion, the losses of single samples; and the batches."""
