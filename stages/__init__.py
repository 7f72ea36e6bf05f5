"""One module per stage of dvc.yaml: read params, call the library, write the outputs."""
