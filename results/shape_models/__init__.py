"""How long an operation of a given shape takes on one chip: small models with physical parameters, evaluated by NumPy alone."""
