"""OAuth 2.0 grants: where they come from, how they are kept, and when their tokens are renewed."""
