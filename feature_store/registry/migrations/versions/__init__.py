"""One file per migration, named `vNNNN_what_it_does.py`. A released one never changes."""
