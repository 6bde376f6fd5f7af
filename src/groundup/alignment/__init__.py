"""Tuning on preferences (DPO, IPO) and on rewards (GRPO)."""
