"""What a network learns: one file per objective."""
