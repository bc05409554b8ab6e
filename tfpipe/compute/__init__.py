"""Where and how it is computed: devices, threads, XLA programs, products of integers."""
