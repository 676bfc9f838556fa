"""Support messages: the small example of text, made of templates."""
