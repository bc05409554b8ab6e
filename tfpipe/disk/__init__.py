"""Files that reach the disk whole, and that are read as data: nothing in them is executed."""
