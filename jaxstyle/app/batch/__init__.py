"""`jaxstyle batch`: many pairs, planned whole and painted some at a time."""
