"""The scheduling side of AGR: Ray Tune trials, the stage store, the champion. It imports `agr`, never the reverse."""
