"""The schema's history: one SQL file a step, never changed after a release."""
