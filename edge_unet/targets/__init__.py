"""The targets: one folder each with lower, runtime and read_back; `registry` names them all."""
