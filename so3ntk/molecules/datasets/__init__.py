"""Files and data sets of molecules."""
