"""What a person sees and types, whatever shows it: forms, the steps of answering, filters, the editor, links."""
