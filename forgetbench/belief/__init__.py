"""Narrow hallucination: does a candidate still say what its base believes, right or wrong?"""
