"""Object stores, such as those of the clouds: addresses, and objects that are read and written whole."""
