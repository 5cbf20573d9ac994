"""Load any Keras model file as a Keras 3 model, running none of its code unless allowed."""
