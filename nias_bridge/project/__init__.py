"""A project on the researcher's own machine: begun, packed, and judged as the gateway would."""
