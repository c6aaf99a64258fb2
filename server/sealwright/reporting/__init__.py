"""Reports to where the developers are: written with the change, told later, never in its way."""
