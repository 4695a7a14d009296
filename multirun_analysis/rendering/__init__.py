"""Tables, and how they are written: text, Markdown, LaTeX, CSV, HTML."""
