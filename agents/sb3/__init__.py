"""Plastic and other recurrent agents for Stable-Baselines3."""
