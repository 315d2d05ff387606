"""One file per family of ops; each says how its op ties, computes, needs and is rewritten."""
