"""Reinforcement learning of a language model from rewards (GRPO)."""
