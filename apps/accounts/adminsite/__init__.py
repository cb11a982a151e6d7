"""The operators' site: who gets in, and that everything done there is written down."""
