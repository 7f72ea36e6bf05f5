"""Neuromodulatory Control Networks: the library behind the pipeline in dvc.yaml."""
