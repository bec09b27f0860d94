"""A connector for Postbox."""
