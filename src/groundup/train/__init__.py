"""The one training loop and everything it stands on."""
