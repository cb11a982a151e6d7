"""The sandbox's processes in plain Python: nothing here imports Django, so it can run before settings load.

Import from the modules: the clock is read by every local process and should not pull in drivers and an ABI.
"""
