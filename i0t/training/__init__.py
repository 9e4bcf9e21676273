"""Stage 1 (fine-tune the encoders) and stage 2 (train the normalisation heads), driven by recipes."""
