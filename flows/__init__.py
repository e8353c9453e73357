"""What runs: one package per workload, a thin flow over plain functions."""
