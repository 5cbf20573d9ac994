"""Files in and out: models, sequences, regions, results."""
