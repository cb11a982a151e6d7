"""The main job, step by step: open, reserve, batch, price, settle. Each module is one step (design.md)."""
