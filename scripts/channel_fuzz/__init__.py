"""Random graphs for the channel engine, and the judge of what it makes of them.

``maker`` grows a graph from the ``pieces_*`` files, ``trial`` cuts it and compares, ``shrink`` makes
a counterexample small.
"""
