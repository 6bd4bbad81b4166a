"""What the console says of the fields of `helmr.forms`: help, examples, a judgement before sending. Pure."""
