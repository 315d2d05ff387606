"""The dead-channel engine: cells, one dataflow, and what follows from it.

It serves twice: the pass ``drop-dead-channels`` cuts what is dead, and pruning ranks the same
groups.  Knowledge of ops lies in ``ops/``, one file per family, and nowhere else.
"""
