"""What a user may choose: values, defaults, parsing. No Keras, no files."""
