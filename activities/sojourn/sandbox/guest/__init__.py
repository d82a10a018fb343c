"""The program inside a sandbox. Standard library only, Python 3.8 or newer: it runs on whatever the sandbox has."""
