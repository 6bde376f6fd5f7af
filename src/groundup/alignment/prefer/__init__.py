"""Preference tuning: train on pairs of a chosen and a rejected answer (DPO and its variants)."""
