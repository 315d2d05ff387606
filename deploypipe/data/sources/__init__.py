"""The shelf of data sources: one file each, the file's name is the name in the recipe."""
