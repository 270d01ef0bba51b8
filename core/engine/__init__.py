"""The engine: lanes and workers that carry deliveries through one pipeline. Plain Python, no Qt."""
