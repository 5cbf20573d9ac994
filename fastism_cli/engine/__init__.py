"""FastISM: plan a model, compute deltas, check them against plain Keras."""
