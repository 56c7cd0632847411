"""Looks at a site point by point, and says for each how to mend it: `nias-bridge doctor`."""
