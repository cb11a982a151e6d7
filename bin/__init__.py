"""Setting up and checking: what make calls. Nothing of this gets into the image."""
