"""Parts that pages share: text, tables, charts, pictures."""
