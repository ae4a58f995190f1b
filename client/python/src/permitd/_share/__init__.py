"""The safe shares that the server sends ahead of time, and what is granted from them while no server can be reached.

Invariant: a share never adds to what the server may just have granted. Rate limits start empty, and permits that are still
held from before the outage count against the share's concurrency.
"""
