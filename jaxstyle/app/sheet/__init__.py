"""`jaxstyle stylize --sheet`: one pair under several settings, as one labeled picture."""
