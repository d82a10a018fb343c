"""The program inside a sandbox. Standard library only, Python 3.8 or newer: it runs on whatever the sandbox has.

Its modules import one another relatively, and the worker may import them as part of the package (`wire`, for one). In
the sandbox there is no package: there `__main__.py` is run as a file and makes one of the folder it lies in. So types
and names are the same in both, and no module of the guest can hide one of the standard library.
"""
