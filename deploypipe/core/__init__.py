"""What every room may import: artifacts, shelves, options, errors, files, progress."""
