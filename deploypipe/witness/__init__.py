"""The independent check of removed channels: it shares no code with what removes them.

It knows no op.  Every claim of a certificate is derived anew by running pieces of both graphs on
random numbers.
"""
