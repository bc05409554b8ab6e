"""From the number of a minibatch to the minibatch."""
