"""What measures speed and truth: each file says at its top how it is run and what its figures mean."""
