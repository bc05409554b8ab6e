"""What no sound file exceeds."""

# Deflate, in gzip and zip, cannot expand a byte to more than this many (zlib's technical details): a larger claim is
# false, and is found out before memory is taken for it.
DEFLATE_MOST = 1032
