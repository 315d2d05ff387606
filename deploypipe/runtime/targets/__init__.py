"""The shelf of targets, one file each."""
