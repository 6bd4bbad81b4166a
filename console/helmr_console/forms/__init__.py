"""JSON Schema as a form: `model` reads a schema, `cells` turns what was typed into JSON, `check` judges it. Pure."""
