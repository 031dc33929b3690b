"""Agreement, quality, latency, memory and energy of artifacts, and the report about them.

Nothing is imported here: the process that measures memory imports one module of this package and little else.
"""
