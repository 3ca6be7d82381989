"""What benchmarks, faults and tests share: the stand-in engine, the load client, programs under measurement."""
