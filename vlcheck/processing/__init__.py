"""From conversations to the batch that a model gets: processor, chat template, collator, labels."""
