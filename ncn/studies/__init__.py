"""Studies: planned before they are run, run size by size through DVC's queue, frozen in git."""
