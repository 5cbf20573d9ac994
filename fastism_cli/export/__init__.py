"""Result files in the formats of other tools: one file of code for each consumer, listed in ``formats``."""
