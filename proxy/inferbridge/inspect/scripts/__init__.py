"""What exported scripts begin with: text for `scripting`, which runs without this package. Nothing imports it."""
