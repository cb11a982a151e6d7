"""Two simulated months of real plans on a real chain: what `make demo` shows and proves."""
