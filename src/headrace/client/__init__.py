"""Talking to Headrace: start runs, wait for them, look at them, command them."""
