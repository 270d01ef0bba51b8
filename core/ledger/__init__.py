"""The ledger: what was planned, done and proved, for every delivery; durable before anything irreversible."""
