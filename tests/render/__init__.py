"""Report formats, compared whole."""
