"""One command from options to output: checks, threads, resume, devices."""
