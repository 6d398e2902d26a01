"""Scripts to submit, one per pipeline; all their code is in featureid."""
