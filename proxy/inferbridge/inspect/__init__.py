"""What an exchange looks like to people: messages, events, tensors, translations as text of bounded size."""
