"""Parties that cheat. Each really runs: the compute faults inside a stage, the rest as providers and verifiers of the real network."""
