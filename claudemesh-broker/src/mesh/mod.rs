//! Live state of a mesh and its rules. Pure: no I/O, and time is a parameter.
