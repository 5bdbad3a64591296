"""What a LoRA adapter's files hold, and whether they fit the model that they are for."""
