"""Result files in the formats of other tools, listed in ``formats``."""
