"""permitd against what people do today, on the same work: real HTTP, real processes, one simulated provider."""
