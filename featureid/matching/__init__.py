"""Matching: scores, exact search, galleries. Arrays in, arrays out; no Beam."""
