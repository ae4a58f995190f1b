"""What `generate` makes of proto/permitd/v1. Nobody edits it."""
