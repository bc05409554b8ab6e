"""Why there is no GPU, and what else a run would stumble over: facts of the machine, and rules that judge them."""
