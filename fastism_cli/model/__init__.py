"""A Keras model: loaded from any file, as a graph of nodes, its inputs, heads, precision, backend."""
