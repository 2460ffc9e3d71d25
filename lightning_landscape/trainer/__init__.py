"""Everything that knows a Lightning Trainer: its private names, its data, the probe of its module, the seal."""
