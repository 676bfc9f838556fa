"""The Label Studio adapter: the only code that speaks to Label Studio."""
